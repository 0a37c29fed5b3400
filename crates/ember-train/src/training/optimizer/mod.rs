//! The optimiser step on a flat parameter list: burn's Adam and SGD per tensor, a pure learning-rate schedule, and gradient clipping
//! by the *global* norm (burn clips per tensor). On a GPU the same step over all parameters at once (`ember_model::descent`).

mod adam;
#[cfg(feature = "wgpu")]
mod flat;
mod rule;
mod schedule;
mod sgd;
mod table;

use burn::tensor::{Device, Tensor};
#[cfg(feature = "wgpu")]
use ember_model::descent;
use ember_model::params::{download, upload};
use ember_model::{EnergyModel, HostTensor, ParamSpec};
use ember_sampler::reduce::sum;
#[cfg(feature = "wgpu")]
use flat::Flat;

use crate::error::Error;
pub use adam::Adam;
pub use rule::{Common, Moments, OptimizerTable};
pub use schedule::Schedule;
pub use sgd::Sgd;
pub use table::OptimizerConfig;

/// An optimiser with the moments it has gathered.
pub struct Optimizer {
    config: OptimizerConfig,
    rule: Rule,
    params: Vec<ParamSpec>,
    /// Whether it steps tensor by tensor on a GPU as well.
    #[cfg(feature = "wgpu")]
    tensor_by_tensor: bool,
    /// What rollbacks have left of the learning rate, in (0, 1].
    pub learning_rate_scale: f64,
}

enum Rule {
    /// Tensor by tensor.
    Each(Box<dyn rule::Rule>),
    /// All parameters at once, on a GPU.
    #[cfg(feature = "wgpu")]
    Flat(Box<Flat>),
}

/// What an optimiser step saw.
pub struct OptimizerInfo {
    /// Global norm of the gradient before clipping, `[1]`.
    pub grad_norm: Tensor<1>,
    /// The learning rate used.
    pub learning_rate: f64,
}

/// What must hold for a step to be made, and what came of it: on a device that decides by itself.
#[cfg(feature = "wgpu")]
pub struct Guarded {
    /// Numbers that must be finite, `[m]`.
    pub finite: Tensor<1>,
    /// Mean energies of data and walkers, `[2]`, and the largest difference allowed.
    pub gap: Option<(Tensor<1>, f64)>,
    /// Whether the gradient comes with the opposite sign.
    pub is_negated: bool,
}

impl Optimizer {
    /// A fresh optimiser for `params`.
    pub fn new(config: &OptimizerConfig, params: Vec<ParamSpec>) -> Self {
        let rule = Rule::Each(config.as_dyn().rule(params.len()));
        Self {
            config: config.clone(),
            rule,
            params,
            #[cfg(feature = "wgpu")]
            tensor_by_tensor: false,
            learning_rate_scale: 1.0,
        }
    }

    /// A fresh optimiser for a few numbers, to be moved by [`Optimizer::step`] on every device.
    pub fn tensor_by_tensor(config: &OptimizerConfig, params: Vec<ParamSpec>) -> Self {
        Self {
            #[cfg(feature = "wgpu")]
            tensor_by_tensor: true,
            ..Self::new(config, params)
        }
    }

    /// The learning rate of update `step`: a pure function of the config and of the rollbacks so far.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.learning_rate_scale * self.config.learning_rate_at(step)
    }

    /// Descends from a model's θ: over one buffer on a GPU, tensor by tensor elsewhere.
    pub fn step_model(
        &mut self,
        step: u64,
        model: &EnergyModel,
        grads: Vec<Tensor<1>>,
    ) -> (EnergyModel, OptimizerInfo) {
        #[cfg(feature = "wgpu")]
        if let Some(first) = model.theta().first()
            && descent::serves(first)
        {
            let alarm = descent::Alarm::none(first);
            let guarded = Guarded { finite: alarm.clone(), gap: None, is_negated: false };
            let (model, info, _) = self.step_guarded(step, model, &grads, guarded, alarm);
            return (model, info);
        }
        let (theta, info) = self.step(step, model.theta(), grads);
        (model.with_theta(theta), info)
    }

    /// Descends on a GPU, where the state is as it must be; else θ and the moments stay, from now on, and the alarm says so.
    ///
    /// # Panics
    /// If the model is on no GPU.
    #[cfg(feature = "wgpu")]
    pub fn step_guarded(
        &mut self,
        step: u64,
        model: &EnergyModel,
        grads: &[Tensor<1>],
        guarded: Guarded,
        alarm: Tensor<1>,
    ) -> (EnergyModel, OptimizerInfo, Tensor<1>) {
        let learning_rate = self.learning_rate(step);
        let device = model.device();
        if !matches!(self.rule, Rule::Flat(_)) {
            self.rule = Rule::Flat(Box::new(Flat::new(&self.config, &self.params, device)));
        }
        let Rule::Flat(flat) = &mut self.rule else { unreachable!("set above") };
        flat.time += 1;
        let rule = self.config.as_dyn().on_device(flat.time);
        let (gap, max_gap) = guarded.gap.unzip();
        let found = descent::descend(
            model.flat_theta(),
            ember_model::flat::pack(grads),
            flat.scales.clone(),
            flat.moments.clone(),
            descent::Guard { finite: guarded.finite, gap, alarm },
            descent::Descent {
                rule,
                learning_rate: learning_rate as f32,
                clip_norm: self.config.clip_norm().map(|norm| norm as f32),
                max_gap: max_gap.map(|gap| gap as f32),
                is_negated: guarded.is_negated,
                step,
            },
        );
        flat.moments = found.moments;
        let info = OptimizerInfo { grad_norm: found.norm, learning_rate };
        (model.with_flat_theta(found.theta), info, found.alarm)
    }

    /// Descends: `θ ← θ − lr · rule(clip(G))`. Frozen tensors are left alone and do not count in the norm.
    ///
    /// # Panics
    /// If the optimiser has begun on one buffer.
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
                Rule::Each(rule) => rule.step(i, rate, tensor.clone(), grad),
                #[cfg(feature = "wgpu")]
                Rule::Flat(_) => panic!("an optimiser steps over one buffer or over tensors, not both"),
            });
        }
        let info = OptimizerInfo { grad_norm, learning_rate };
        (updated, info)
    }

    /// The moments as named tensors and the step counters, for a checkpoint.
    pub fn state(&self) -> (Vec<HostTensor>, Vec<(String, u64)>) {
        let (mut tensors, mut counters) = (Vec::new(), Vec::new());
        let tensor = |name: &str, spec: &ParamSpec, values: Vec<f32>| HostTensor {
            name: format!("{name}.{}", spec.name),
            shape: spec.shape.clone(),
            values,
        };
        match &self.rule {
            Rule::Each(rule) => {
                for (i, spec) in self.params.iter().enumerate() {
                    let Some(Moments { time, values: [first, second] }) = rule.moments(i) else { continue };
                    tensors.push(tensor("moment_1", spec, download(first)));
                    tensors.push(tensor("moment_2", spec, download(second)));
                    counters.push((format!("time.{}", spec.name), time));
                }
            }
            #[cfg(feature = "wgpu")]
            Rule::Flat(flat) => {
                if self.config.as_dyn().moments() == 0 {
                    return (tensors, counters);
                }
                let [m, v] = flat.moments.clone().map(download);
                // A frozen tensor has no moments, as tensor by tensor.
                for (i, spec) in
                    self.params.iter().enumerate().filter(|(_, spec)| spec.learning_rate_scale != 0.0)
                {
                    let place = flat.layout.begins[i]..flat.layout.begins[i] + flat.layout.lens[i];
                    tensors.push(tensor("moment_1", spec, m[place.clone()].to_vec()));
                    tensors.push(tensor("moment_2", spec, v[place].to_vec()));
                    counters.push((format!("time.{}", spec.name), flat.time));
                }
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
        let mut found = Vec::with_capacity(self.params.len());
        for spec in &self.params {
            let Some(time) = counter(&format!("time.{}", spec.name)) else {
                found.push(None);
                continue;
            };
            let moment = |name: &str| {
                let name = format!("{name}.{}", spec.name);
                tensors
                    .iter()
                    .find(|t| t.name == name && t.values.len() == spec.len())
                    .map(|t| t.values.clone())
                    .ok_or_else(|| {
                        Error::usage(format!(
                            "the optimizer state has no tensor `{name}` of {} values",
                            spec.len()
                        ))
                    })
            };
            found.push(Some((time, moment("moment_1")?, moment("moment_2")?)));
        }
        // A build for CPUs has the one kind.
        #[allow(clippy::infallible_destructuring_match)]
        let rule = match &mut self.rule {
            Rule::Each(rule) => rule,
            #[cfg(feature = "wgpu")]
            Rule::Flat(_) => return Ok(()),
        };
        if self.config.as_dyn().moments() == 0 {
            return Ok(());
        }
        #[cfg(feature = "wgpu")]
        if !self.tensor_by_tensor && descent::serves(&Tensor::zeros([1], device)) {
            let mut flat = Flat::new(&self.config, &self.params, device);
            let (mut m, mut v) = (vec![0.0; flat.layout.total], vec![0.0; flat.layout.total]);
            for (&begin, state) in flat.layout.begins.iter().zip(found) {
                let Some((time, moment_1, moment_2)) = state else { continue };
                m[begin..begin + moment_1.len()].copy_from_slice(&moment_1);
                v[begin..begin + moment_2.len()].copy_from_slice(&moment_2);
                flat.time = flat.time.max(time);
            }
            flat.moments = [upload(m, device), upload(v, device)];
            self.rule = Rule::Flat(Box::new(flat));
            return Ok(());
        }
        for (i, found) in found.into_iter().enumerate() {
            let moments = found.map(|(time, first, second)| Moments {
                time,
                values: [upload(first, device), upload(second, device)],
            });
            rule.set_moments(i, moments);
        }
        Ok(())
    }
}
