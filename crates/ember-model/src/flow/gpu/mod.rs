//! Affine couplings with perceptrons, and act-norms, on a GPU: a whole chain in one launch, its parameter gradients in two.
//!
//! A cube takes a tile of rows through every coupling: coordinates, activations and signals are in shared memory, weights pass
//! through it. On the way back it needs of each coupling the slopes and scales, z and the hidden `z_l`; they go through a scratch
//! buffer (inverting the couplings instead would add rounding, and a forward pass). For gradients in θ signals stay there too, and a
//! second launch makes every block of every tensor from them, each by one cube over all rows in a fixed order: no atomics, no
//! partial sums of the size of θ.
//!
//! | | launches |
//! |---|---|
//! | `U`, `(z, log det)`, `(x, log det)`, `(U, ∇ₓU)` | 1 |
//! | `U` and `Σ_b w_b ∂_θU(x_b)` | 2; more where scratch is over 96 MiB |
//!
//! each after one that packs θ, where that is not one buffer already. The references are the layers' tensor forms, on the tape.
//!
//! Limits, beyond which those serve: chains other than `couplings.rs` builds; activations but for `gelu`; widths that do not fit the
//! adapter's shared memory with a tile of four rows: `2 max(hidden, dim) + dim` up to 1,530 where that is 32 KiB, 2,550 where it is 48.

mod kernel;
mod launch;
mod network;
mod plan;
mod products;
mod sums;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::{Cube, CubeBackend};

use super::steps::{Network, Step};
use crate::energy::WeightedGrads;
use crate::energy::explicit::stacked;
use crate::flat::{self, Layout};
use kernel::Task;
use plan::Plan;

/// The operations a GPU provides. Call [`GpuForm`] instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait FlowOps: Backend {
    /// What a task gives of each row, `[rows]`, and of its coordinates, `[rows, dim]`.
    #[fusion(meta = |x, _theta, _plan, _bound, task| {
        let positions = if *task == Task::Energy { Shape::from([1, 1]) } else { x.shape.clone() };
        (TensorSpec::new(Shape::from([x.shape[0]]), x.dtype), TensorSpec::new(positions, x.dtype))
    })]
    fn flow_rows(
        x: FloatTensor<Self>,
        theta: FloatTensor<Self>,
        plan: Plan,
        bound: f32,
        task: Task,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `U`, `[rows]`, and `Σ_b w_b ∂_θU(x_b)`, flat as θ is.
    #[fusion(meta = |x, _weights, theta, _plan, _bound| {
        (TensorSpec::new(Shape::from([x.shape[0]]), x.dtype), theta.clone())
    })]
    fn flow_param_grads(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        theta: FloatTensor<Self>,
        plan: Plan,
        bound: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl FlowOps for CubeBackend {
    fn flow_rows(
        x: FloatTensor<Self>,
        theta: FloatTensor<Self>,
        plan: Plan,
        bound: f32,
        task: Task,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        launch::rows(x, theta, &plan, bound, task)
    }

    fn flow_param_grads(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        theta: FloatTensor<Self>,
        plan: Plan,
        bound: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        launch::param_grads(x, weights, theta, &plan, bound)
    }
}

/// A chain that the kernels know.
#[derive(Debug)]
pub(super) struct GpuForm {
    /// For any number of rows.
    plan: Plan,
    /// b, the bound of `|s|`.
    bound: f32,
    /// θ in one buffer.
    layout: Layout,
}

impl GpuForm {
    /// The form of a chain, where there is one.
    pub fn new(network: &Network) -> Option<Self> {
        let layout = Layout::new(network.steps.iter().flat_map(|(_, step)| step.param_lens(network.dim)));
        let bound = network.steps.iter().find_map(|(_, step)| match step {
            Step::Coupling(coupling) => Some(coupling.bound),
            _ => None,
        })?;
        Some(Self { plan: Plan::new(network, &layout.begins, 8)?, bound, layout })
    }

    /// `U_θ(x)`, or `None` where a tensor is on no GPU or on the tape, or beyond the limits above.
    pub fn energy(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Tensor<1>> {
        Some(self.rows(theta, x, Task::Energy)?.0)
    }

    /// `(U_θ(x), ∇ₓU_θ(x))`, or `None` as in [`Self::energy`].
    pub fn energy_and_grad(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        self.rows(theta, x, Task::Gradient)
    }

    /// `z` and `log |det ∂z/∂x|`, or `None` as in [`Self::energy`].
    pub fn inverse(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<2>, Tensor<1>)> {
        let (log_det, z) = self.rows(theta, x, Task::ToLatent)?;
        Some((z, log_det))
    }

    /// `x` and `log |det ∂x/∂z|`, or `None` as in [`Self::energy`].
    pub fn forward(&self, theta: &[Tensor<1>], z: &Tensor<2>) -> Option<(Tensor<2>, Tensor<1>)> {
        let (log_det, x) = self.rows(theta, z, Task::ToData)?;
        Some((x, log_det))
    }

    /// The weighted parameter gradients of some terms, or `None` as in [`Self::energy`].
    pub fn weighted_param_grads(
        &self,
        theta: &[Tensor<1>],
        terms: &[(Tensor<2>, Tensor<1>)],
    ) -> Option<WeightedGrads> {
        let serves =
            |(x, weights): &(Tensor<2>, Tensor<1>)| is_plain(weights) && self.plan(theta, x).is_some();
        if terms.is_empty() || !terms.iter().all(serves) {
            return None;
        }
        let (x, weights, split) = stacked(terms);
        let plan = self.plan(theta, &x)?;
        let (energy, grads) = <Dispatch as FlowOps>::flow_param_grads(
            x.into_dispatch(),
            weights.into_dispatch(),
            flat::pack(theta).into_dispatch(),
            plan,
            self.bound,
        );
        let (energy, grads) = (Tensor::from_dispatch(energy), Tensor::<1>::from_dispatch(grads));
        Some(WeightedGrads { grads: self.layout.views(&grads), energies: split(&energy) })
    }

    fn rows(&self, theta: &[Tensor<1>], x: &Tensor<2>, task: Task) -> Option<(Tensor<1>, Tensor<2>)> {
        let plan = self.plan(theta, x)?;
        let (per_row, positions) = <Dispatch as FlowOps>::flow_rows(
            x.clone().into_dispatch(),
            flat::pack(theta).into_dispatch(),
            plan,
            self.bound,
            task,
        );
        Some((Tensor::from_dispatch(per_row), Tensor::from_dispatch(positions)))
    }

    /// The plan for these rows, where everything is plain and on a GPU whose shared memory is large enough.
    fn plan(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Plan> {
        if x.dims()[0] == 0 || !is_plain(x) || !theta.iter().all(is_plain) {
            return None;
        }
        let on_gpu = x.clone().try_into_primitive::<Cube>().ok()?;
        let client = on_gpu.client.device().client();
        let tile = self.plan.tile(x.dims()[0], &client.properties().hardware)?;
        Some(self.plan.at(tile))
    }
}

fn is_plain<const D: usize>(tensor: &Tensor<D>) -> bool {
    tensor.dtype() == DType::F32 && !tensor.is_autodiff()
}
