//! A flow as a chain of layers.
//!
//! Layers are listed from the data to the latent: `inverse` walks the list, `forward` walks it backwards. A chain may retire
//! trailing coordinates on the way to z (Dinh et al. 2017, section 3.6: "factoring out"); they are the end of z.

use std::fmt::Debug;
#[cfg(feature = "wgpu")]
use std::sync::OnceLock;

use burn::tensor::Tensor;

use super::cpu::CpuForm;
#[cfg(feature = "wgpu")]
use super::gpu::GpuForm;
use super::steps::Step as CpuStep;
use super::{Flow, NonFinite, Quantity, standard_normal};
use crate::params::{ParamSpec, download};
use crate::random::{Purpose, Stream};

/// One bijection of `[batch, width]`. `theta` holds its own parameters only; all calls are as those of [`Flow`].
pub(super) trait Layer: Debug + Send + Sync {
    /// The parameters, named within the layer; none for a fixed map.
    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }

    /// Starting values. Lane offsets of `stream` keep the numbers of different parameters apart.
    fn init(&self, _stream: &dyn Fn(usize) -> Stream) -> Vec<Vec<f32>> {
        Vec::new()
    }

    /// Latent to data.
    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>);

    /// Data to latent.
    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>);

    /// Whether [`Layer::fitted`] gives parameters.
    fn is_fitted(&self) -> bool {
        false
    }

    /// The layer for the CPU form of a chain, where that knows it.
    fn cpu_step(&self) -> Option<CpuStep> {
        None
    }

    /// The parameters that suit the rows `x: [n, width]` that reach the layer; `None` keeps them.
    fn fitted(&self, _x: Tensor<2>) -> Option<Vec<Tensor<1>>> {
        None
    }
}

/// What happens at one place of a chain.
#[derive(Debug)]
enum Step {
    /// A layer with its name and its number of parameters.
    Layer { name: String, layer: Box<dyn Layer>, params: usize },
    /// The trailing coordinates beyond this many are done.
    FactorOut(usize),
}

/// A flow made of layers.
#[derive(Debug)]
pub(super) struct Chain {
    kind: &'static str,
    dim: usize,
    steps: Vec<Step>,
    /// The same map, where every layer has its part.
    cpu: Option<CpuForm>,
    /// The same again, in few launches; made when it is first asked for.
    #[cfg(feature = "wgpu")]
    gpu: OnceLock<Option<GpuForm>>,
}

impl Chain {
    /// The identity on `dim` coordinates.
    pub fn new(kind: &'static str, dim: usize) -> Self {
        Self {
            kind,
            dim,
            steps: Vec::new(),
            cpu: Some(CpuForm::identity(dim)),
            #[cfg(feature = "wgpu")]
            gpu: OnceLock::new(),
        }
    }

    /// Adds a layer at the latent end. Its parameters are named `{name}.…`.
    pub fn push(&mut self, name: impl Into<String>, layer: impl Layer + 'static) {
        let params = layer.params().len();
        self.cpu = self.cpu.take().and_then(|cpu| cpu.with(layer.cpu_step()?));
        #[cfg(feature = "wgpu")]
        drop(self.gpu.take());
        self.steps.push(Step::Layer { name: name.into(), layer: Box::new(layer), params });
    }

    /// Leaves only the first `width` coordinates to the layers to come.
    pub fn factor_out(&mut self, width: usize) {
        self.cpu = None;
        #[cfg(feature = "wgpu")]
        drop(self.gpu.take());
        self.steps.push(Step::FactorOut(width));
    }

    /// The explicit form for plain tensors on the CPU; the layers' own is the reference.
    pub fn cpu(&self) -> Option<&CpuForm> {
        self.cpu.as_ref()
    }

    /// The explicit form for plain tensors on a GPU.
    #[cfg(feature = "wgpu")]
    pub fn gpu(&self) -> Option<&GpuForm> {
        self.gpu.get_or_init(|| GpuForm::new(self.cpu.as_ref()?.passes())).as_ref()
    }

    /// The layers with their names, in order.
    fn layers(&self) -> impl Iterator<Item = (&str, &dyn Layer)> {
        self.steps.iter().filter_map(|step| match step {
            Step::Layer { name, layer, .. } => Some((name.as_str(), layer.as_ref())),
            Step::FactorOut(_) => None,
        })
    }

    /// The walk from x to z: `visit` maps the coordinates in play through each layer, given its θ. The walk ends where
    /// `visit` gives `None`.
    fn walk<'a>(
        &'a self,
        mut theta: &'a [Tensor<1>],
        x: Tensor<2>,
        mut visit: impl FnMut(&'a str, &'a dyn Layer, &'a [Tensor<1>], Tensor<2>) -> Option<Tensor<2>>,
    ) -> Option<Tensor<2>> {
        let mut x = x;
        let mut done = Vec::new();
        for step in &self.steps {
            match step {
                Step::Layer { name, layer, params } => {
                    let (own, rest) = theta.split_at(*params);
                    theta = rest;
                    x = visit(name, layer.as_ref(), own, x)?;
                }
                Step::FactorOut(width) => {
                    let [_, all] = x.dims();
                    done.push(x.clone().narrow(1, *width, all - width));
                    x = x.narrow(1, 0, *width);
                }
            }
        }
        if done.is_empty() {
            return Some(x);
        }
        done.push(x);
        done.reverse();
        Some(Tensor::cat(done, 1))
    }
}

impl Flow for Chain {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.layers()
            .flat_map(|(name, layer)| {
                layer
                    .params()
                    .into_iter()
                    .map(move |spec| ParamSpec { name: format!("{name}.{}", spec.name), ..spec })
            })
            .collect()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let mut theta = Vec::new();
        for (_, layer) in self.layers() {
            let first = theta.len();
            theta
                .extend(layer.init(&|offset| Stream::new(seed, Purpose::Init).lane((first + offset) as u32)));
        }
        theta
    }

    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, dim] = z.dims();
        assert_eq!(dim, self.dim, "coordinates of z");
        if let Some(found) = self.explicit_forward(theta, &z) {
            return found;
        }
        let mut log_det = Tensor::zeros([n], &z.device());
        let mut theta = theta;
        let width = self.steps.iter().fold(dim, |width, step| match step {
            Step::FactorOut(width) => *width,
            Step::Layer { .. } => width,
        });
        let mut x = z.clone().narrow(1, 0, width);
        for (i, step) in self.steps.iter().enumerate().rev() {
            match step {
                Step::Layer { layer, params, .. } => {
                    let (rest, own) = theta.split_at(theta.len() - params);
                    theta = rest;
                    let (moved, change) = layer.forward(own, x);
                    (x, log_det) = (moved, log_det + change);
                }
                Step::FactorOut(width) => {
                    let before = self.steps[..i].iter().rev().find_map(|step| match step {
                        Step::FactorOut(width) => Some(*width),
                        Step::Layer { .. } => None,
                    });
                    let back = z.clone().narrow(1, *width, before.unwrap_or(dim) - width);
                    x = Tensor::cat(vec![x, back], 1);
                }
            }
        }
        (x, log_det)
    }

    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, dim] = x.dims();
        assert_eq!(dim, self.dim, "coordinates of x");
        if let Some(found) = self.explicit_inverse(theta, &x) {
            return found;
        }
        let mut log_det = Tensor::zeros([n], &x.device());
        let z = self.walk(theta, x.clone(), |_, layer, own, x| {
            let (moved, change) = layer.inverse(own, x);
            log_det = log_det.clone() + change;
            Some(moved)
        });
        // The walk above goes to its end.
        (z.unwrap_or(x), log_det)
    }

    fn has_data_init(&self) -> bool {
        self.layers().any(|(_, layer)| layer.is_fitted())
    }

    fn data_init(&self, theta: &[Tensor<1>], rows: Tensor<2>) -> Vec<Tensor<1>> {
        let mut found = Vec::with_capacity(theta.len());
        self.walk(theta, rows, |_, layer, own, x| {
            let own = layer.fitted(x.clone()).unwrap_or_else(|| own.to_vec());
            let (moved, _) = layer.inverse(&own, x);
            found.extend(own);
            Some(moved)
        });
        found
    }

    fn first_non_finite_layer(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<NonFinite> {
        let at =
            |layer: Option<usize>, name: &str, quantity| NonFinite { layer, name: name.into(), quantity };
        if !is_finite(x.clone()) {
            return Some(at(None, "input", Quantity::Position));
        }
        let mut index = 0;
        let mut found = None;
        let z = self.walk(theta, x, |name, layer, own, x| {
            let (moved, change) = layer.inverse(own, x);
            if !is_finite(moved.clone()) {
                found = Some(at(Some(index), name, Quantity::Position));
            } else if !is_finite(change) {
                found = Some(at(Some(index), name, Quantity::LogDet));
            }
            index += 1;
            found.is_none().then_some(moved)
        });
        match z {
            Some(z) if !is_finite(standard_normal(z.clone())) => Some(at(None, "base", Quantity::Position)),
            _ => found,
        }
    }
}

fn is_finite<const D: usize>(tensor: Tensor<D>) -> bool {
    download(tensor).iter().all(|value| value.is_finite())
}
