//! The optimiser step on a flat parameter list: burn's Adam and SGD per tensor, a pure learning-rate schedule, and
//! gradient clipping by the *global* norm (burn clips per tensor).

use burn::optim::{Adam, AdamConfig, AdamState, AdaptiveMomentumState, Optimizer as _, Sgd, SgdConfig};
use burn::tensor::{Device, Tensor};
use ember_model::params::{download, upload};
use ember_model::{HostTensor, ParamSpec};
use ember_sampler::reduce::sum;

use crate::config::OptimizerConfig;
use crate::error::Error;

/// An optimiser with the moments it has gathered.
pub struct Optimizer {
    config: OptimizerConfig,
    rule: Rule,
    params: Vec<ParamSpec>,
    /// What rollbacks have left of the learning rate, in (0, 1].
    pub learning_rate_scale: f64,
}

enum Rule {
    Sgd(Sgd),
    Adam(Adam, Vec<Option<AdamState<1>>>),
}

/// What an optimiser step saw.
pub struct OptimizerInfo {
    /// Global norm of the gradient before clipping, `[1]`.
    pub grad_norm: Tensor<1>,
    /// The learning rate used.
    pub learning_rate: f64,
}

impl Optimizer {
    /// A fresh optimiser for `params`.
    pub fn new(config: &OptimizerConfig, params: Vec<ParamSpec>) -> Self {
        let rule = match config {
            OptimizerConfig::Sgd(_) => Rule::Sgd(SgdConfig::new().build()),
            OptimizerConfig::Adam(adam) => Rule::Adam(
                AdamConfig::new()
                    .with_beta_1(adam.beta1 as f32)
                    .with_beta_2(adam.beta2 as f32)
                    .with_epsilon(adam.epsilon as f32)
                    .build(),
                vec![None; params.len()],
            ),
        };
        Self { config: config.clone(), rule, params, learning_rate_scale: 1.0 }
    }

    /// The learning rate of update `step`: a pure function of the config and of the rollbacks so far.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.learning_rate_scale * self.config.learning_rate_at(step)
    }

    /// Descends: `θ ← θ − lr · rule(clip(G))`. Frozen tensors are left alone and do not count in the norm.
    pub fn step(
        &mut self,
        step: u64,
        theta: &[Tensor<1>],
        mut grads: Vec<Tensor<1>>,
    ) -> (Vec<Tensor<1>>, OptimizerInfo) {
        let learning_rate = self.learning_rate(step);
        let trained = |spec: &ParamSpec| spec.learning_rate_scale != 0.0;
        let square = self
            .params
            .iter()
            .zip(&grads)
            .filter(|(spec, _)| trained(spec))
            .map(|(_, grad)| sum(grad.clone() * grad.clone()))
            .reduce(|a, b| a + b);
        let grad_norm = match square {
            Some(square) => square.sqrt(),
            None => Tensor::zeros([1], &theta[0].device()),
        };
        if let Some(clip) = self.config.clip_norm() {
            // min(1, clip / |G|)
            let scale = (grad_norm.clone() + 1e-12).recip().mul_scalar(clip).clamp_max(1.0);
            grads = grads.into_iter().map(|grad| grad * scale.clone()).collect();
        }
        let mut updated = Vec::with_capacity(theta.len());
        for (i, ((spec, tensor), grad)) in self.params.iter().zip(theta).zip(grads).enumerate() {
            if !trained(spec) {
                updated.push(tensor.clone());
                continue;
            }
            let rate = learning_rate * spec.learning_rate_scale;
            updated.push(match &mut self.rule {
                Rule::Sgd(sgd) => sgd.step(rate, tensor.clone(), grad, None).0,
                Rule::Adam(adam, states) => {
                    let (tensor, state) = adam.step(rate, tensor.clone(), grad, states[i].take());
                    states[i] = state;
                    tensor
                }
            });
        }
        let info = OptimizerInfo { grad_norm, learning_rate };
        (updated, info)
    }

    /// The moments as named tensors and the step counters, for a checkpoint.
    pub fn state(&self) -> (Vec<HostTensor>, Vec<(String, u64)>) {
        let (mut tensors, mut counters) = (Vec::new(), Vec::new());
        if let Rule::Adam(_, states) = &self.rule {
            for (spec, state) in self.params.iter().zip(states) {
                let Some(state) = state else { continue };
                let tensor = |name: &str, values: &Tensor<1>| HostTensor {
                    name: format!("{name}.{}", spec.name),
                    shape: spec.shape.clone(),
                    values: download(values.clone()),
                };
                tensors.push(tensor("moment_1", &state.momentum.moment_1));
                tensors.push(tensor("moment_2", &state.momentum.moment_2));
                counters.push((format!("time.{}", spec.name), state.momentum.time as u64));
            }
        }
        (tensors, counters)
    }

    /// Puts the state of [`Optimizer::state`] back.
    ///
    /// # Errors
    /// Says which tensor is missing or of another length.
    pub fn load_state(
        &mut self,
        tensors: &[HostTensor],
        counter: impl Fn(&str) -> Option<u64>,
        device: &Device,
    ) -> Result<(), Error> {
        let Rule::Adam(_, states) = &mut self.rule else {
            return Ok(());
        };
        for (spec, state) in self.params.iter().zip(states) {
            let Some(time) = counter(&format!("time.{}", spec.name)) else {
                continue;
            };
            let moment = |name: &str| {
                let name = format!("{name}.{}", spec.name);
                tensors
                    .iter()
                    .find(|t| t.name == name && t.values.len() == spec.len())
                    .map(|t| upload(t.values.clone(), device))
                    .ok_or_else(|| {
                        Error::usage(format!(
                            "the optimizer state has no tensor `{name}` of {} values",
                            spec.len()
                        ))
                    })
            };
            *state = Some(AdamState::new(AdaptiveMomentumState::new(
                time as usize,
                moment("moment_1")?,
                moment("moment_2")?,
            )));
        }
        Ok(())
    }
}
