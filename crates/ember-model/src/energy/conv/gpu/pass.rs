//! A network's pass: forward, back to x, and the parameter gradients of it. Weights of walkers enter these as factors of the signals, so
//! that one pass, from `δ_L = 1`, serves `∇ₓU` and every weighted gradient.

use std::sync::Arc;

use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{DType, Tensor};
use burn_cubecl::Cube;

use super::pack::Packed;
use super::plan::{Geometry, MOST_THREADS, Plan, Product, SHARED_BYTES, keeps_slopes};
use super::{ConvOps, PACKED};
use crate::energy::activation::Activation;
use crate::energy::conv::Conv;
use crate::energy::explicit::stacked;
use crate::energy::{Evaluation, Pass, WeightedGrads};

/// The network at some θ and some images, after the forward pass.
#[derive(Debug)]
pub(in crate::energy::conv) struct Convolutions {
    layers: Vec<Geometry>,
    activation: Activation,
    confinement: f32,
    x: Tensor<2>,
    /// Weights of every layer but the last, and where they are.
    packed: Vec<(Tensor<1>, Packed)>,
    /// `a(z_l)` of every layer but the last, `[n, h, w, out]`.
    hidden: Vec<Tensor<4>>,
    /// What the slopes `a′(z_l)` come from: themselves or `a(z_l)`.
    kept: Vec<Tensor<4>>,
    /// `δ` of the last of them.
    signal: Tensor<4>,
    /// `U`, `[n]`.
    energy: Tensor<1>,
}

/// Whether kernels serve this network, and the adapter runs them.
fn serves(config: &Conv, theta: &[Tensor<1>], x: &Tensor<2>) -> bool {
    let is_plain = |dtype: DType| dtype == DType::F32;
    if config.layers.len() < 2
        || config.activation == Activation::Gelu
        || !is_plain(x.dtype())
        || !theta
            .iter()
            .all(|tensor| is_plain(tensor.dtype()) && tensor.clone().try_into_primitive::<Cube>().is_ok())
    {
        return false;
    }
    let Ok(on_gpu) = x.clone().try_into_primitive::<Cube>() else {
        return false;
    };
    let client = on_gpu.client.device().client();
    let hardware = &client.properties().hardware;
    hardware.max_shared_memory_size >= SHARED_BYTES
        && hardware.max_units_per_cube as usize >= MOST_THREADS
        // The packed weights', and the launch's own numbers.
        && hardware.max_bindings as usize >= PACKED + 2
}

/// The weights of `layers`, packed by one launch for every [`PACKED`] of them.
fn packed(layers: &[Geometry], theta: &[Tensor<1>]) -> Vec<(Tensor<1>, Packed)> {
    let chunks = layers.chunks(PACKED).zip(theta.chunks(2 * PACKED));
    let pack = |(layers, theta): (&[Geometry], &[Tensor<1>])| {
        let places = Packed::all(layers);
        // Slots beyond the last layer hold any tensor.
        let slot = |l: usize| theta.get(2 * l).unwrap_or(&theta[0]).clone().into_dispatch();
        let tensor = Tensor::<1>::from_dispatch(<Dispatch as ConvOps>::conv_pack(
            slot(0),
            slot(1),
            slot(2),
            slot(3),
            slot(4),
            slot(5),
            slot(6),
            slot(7),
            places.clone(),
        ));
        places.into_iter().map(move |place| (tensor.clone(), place)).collect::<Vec<_>>()
    };
    chunks.flat_map(pack).collect()
}

impl Convolutions {
    /// The forward pass at `theta` (`W_0, b_0, W_1, …`, flat) and `x: [n, dim]`, images of `image: [c, h, w]`; `None` where kernels do
    /// not serve it.
    pub(in crate::energy::conv) fn new(
        config: &Conv,
        image: [usize; 3],
        theta: &[Tensor<1>],
        x: &Tensor<2>,
    ) -> Option<Self> {
        if !serves(config, theta, x) {
            return None;
        }
        let (n, x, activation) = (x.dims()[0], x.clone(), config.activation);
        let (confinement, layers) = (config.confinement as f32, Geometry::of(image, &config.layers));
        let last = layers.len() - 1;
        let packed = packed(&layers[..last], theta);
        let (mut hidden, mut kept): (Vec<Tensor<4>>, Vec<Tensor<4>>) = (Vec::new(), Vec::new());
        for (l, (tensor, place)) in packed.iter().enumerate() {
            let (values, slopes) = <Dispatch as ConvOps>::conv_forward(
                hidden
                    .last()
                    .map_or_else(|| x.clone().into_dispatch(), |below| below.clone().into_dispatch()),
                tensor.clone().into_dispatch(),
                theta[2 * l + 1].clone().into_dispatch(),
                Plan::new(layers[l], Product::Forward, activation, n),
                place.forward,
            );
            let values = Tensor::<4>::from_dispatch(values);
            let slopes = Tensor::<4>::from_dispatch(slopes);
            kept.push(if keeps_slopes(activation) { slopes } else { values.clone() });
            hidden.push(values);
        }
        let (energy, signal) = <Dispatch as ConvOps>::conv_top(
            hidden[last - 1].clone().into_dispatch(),
            kept[last - 1].clone().into_dispatch(),
            theta[2 * last].clone().into_dispatch(),
            theta[2 * last + 1].clone().into_dispatch(),
            x.clone().into_dispatch(),
            Plan::new(layers[last], Product::Forward, activation, n),
            confinement,
        );
        let (energy, signal) = (Tensor::from_dispatch(energy), Tensor::from_dispatch(signal));
        Some(Self { layers, activation, confinement, x, packed, hidden, kept, signal, energy })
    }

    fn plan(&self, l: usize, product: Product) -> Plan {
        Plan::new(self.layers[l], product, self.activation, self.x.dims()[0])
    }

    /// `Wᵀ ∗ δ_l` with what follows it: see `ConvOps::conv_input`.
    fn back(&self, l: usize, signal: &Tensor<4>, below: DispatchTensor) -> DispatchTensor {
        let (packed, place) = &self.packed[l];
        <Dispatch as ConvOps>::conv_input(
            signal.clone().into_dispatch(),
            packed.clone().into_dispatch(),
            below,
            self.plan(l, Product::Input),
            place.back,
            self.confinement,
        )
    }

    /// `δ_l` of every layer but the last, for `δ_L = 1`.
    fn signals(&self) -> Vec<Tensor<4>> {
        let mut signals = vec![self.signal.clone()];
        for l in (1..self.packed.len()).rev() {
            let below = self.kept[l - 1].clone().into_dispatch();
            signals.push(Tensor::from_dispatch(self.back(l, &signals[signals.len() - 1], below)));
        }
        signals.reverse();
        signals
    }

    /// `∇ₓU`, `[n, dim]`.
    fn energy_grad(&self, signals: &[Tensor<4>]) -> Tensor<2> {
        Tensor::from_dispatch(self.back(0, &signals[0], self.x.clone().into_dispatch()))
    }

    /// What layer `l` saw.
    fn input(&self, l: usize) -> DispatchTensor {
        match l {
            0 => self.x.clone().into_dispatch(),
            _ => self.hidden[l - 1].clone().into_dispatch(),
        }
    }

    /// `Σ_b w_b ∂_θU(x_b)`, flat, in the order of θ. `weights: [n]`.
    fn param_grads(&self, signals: &[Tensor<4>], weights: &Tensor<1>) -> Vec<Tensor<1>> {
        let layer = |l: usize| {
            let factors = weights.clone().into_dispatch();
            let mut plan = self.plan(l, Product::Weights);
            plan.ones = l == signals.len();
            let signal = signals.get(l).map_or_else(|| factors.clone(), |s| s.clone().into_dispatch());
            let (weights, bias) = <Dispatch as ConvOps>::conv_weights(self.input(l), signal, factors, plan);
            [Tensor::from_dispatch(weights), Tensor::from_dispatch(bias)]
        };
        (0..self.layers.len()).flat_map(layer).collect()
    }

    /// `U`.
    pub(in crate::energy::conv) fn energy(self) -> Tensor<1> {
        self.energy
    }

    /// `(U, ∇ₓU)`.
    pub(in crate::energy::conv) fn energy_and_grad(self) -> (Tensor<1>, Tensor<2>) {
        let grad = self.energy_grad(&self.signals());
        (self.energy, grad)
    }

    /// `(U, ∇ₓU)` and the pass.
    pub(in crate::energy::conv) fn energy_and_grad_kept(self) -> Evaluation {
        let signals = self.signals();
        let grad = self.energy_grad(&signals);
        (self.energy.clone(), grad, Some(Arc::new(Kept { network: self, signals })))
    }
}

/// A pass with its signals.
#[derive(Debug)]
struct Kept {
    network: Convolutions,
    signals: Vec<Tensor<4>>,
}

impl Pass for Kept {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        self.network.param_grads(&self.signals, weights)
    }
}

/// All terms in one pass: their images stand under each other. `None` as in [`Convolutions::new`].
pub(in crate::energy::conv) fn weighted_param_grads(
    config: &Conv,
    image: [usize; 3],
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
) -> Option<WeightedGrads> {
    let on_gpu = terms.iter().all(|(x, weights)| {
        let weights_are_there = weights.clone().try_into_primitive::<Cube>().is_ok();
        serves(config, theta, x) && weights.dtype() == DType::F32 && weights_are_there
    });
    if !on_gpu || terms.is_empty() {
        return None;
    }
    let (x, weights, split) = stacked(terms);
    let network = Convolutions::new(config, image, theta, &x)?;
    let grads = network.param_grads(&network.signals(), &weights);
    Some(WeightedGrads { energies: split(&network.energy), grads })
}
