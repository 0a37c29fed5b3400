//! Numbers that an objective trains beside θ, such as its estimate of log Z: [`crate::training::objective::DataLoss::own_numbers`].
//!
//! They move by the rule and the learning rates of `[optimizer]`, with moments of their own and clipped by their own norm, in the
//! same updates as θ. A checkpoint holds them as `own.values` and `own.moment_…` in the optimiser's file.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{HostTensor, ParamSpec};
use ember_sampler::reduce::sum;

use super::Trainer;
use crate::error::Error;
use crate::store::checkpoint::Checkpoint;
use crate::store::record::{OWN_PREFIX, own_numbers, without_prefix};
use crate::training::objective::DataLoss;
use crate::training::optimizer::{Optimizer, OptimizerConfig};

/// The numbers with what moves them.
pub struct Own {
    /// `[k]`, at the θ of the last update.
    pub values: Tensor<1>,
    /// Their optimiser.
    pub optimizer: Optimizer,
}

impl Own {
    fn new(loss: &dyn DataLoss, values: Vec<f32>, config: &OptimizerConfig, device: &Device) -> Self {
        let spec = ParamSpec {
            learning_rate_scale: loss.own_learning_rate_scale(),
            ..ParamSpec::new("numbers", vec![values.len()])
        };
        let optimizer = Optimizer::tensor_by_tensor(config, vec![spec]);
        Self { values: upload(values, device), optimizer }
    }

    /// One step against their gradient, `[k]`. Waits for nothing.
    pub(super) fn step(&mut self, update: u64, grad: Tensor<1>) -> Tensor<1> {
        let values = std::slice::from_ref(&self.values);
        self.optimizer.step(update, values, vec![grad]).0.remove(0)
    }

    /// The tensors and counters of a checkpoint.
    pub(crate) fn state(&self) -> (Vec<HostTensor>, Vec<(String, u64)>) {
        let (moments, times) = self.optimizer.state();
        let values = download(self.values.clone());
        let values = HostTensor { name: "values".to_owned(), shape: vec![values.len()], values };
        let named =
            |tensor: HostTensor| HostTensor { name: format!("{OWN_PREFIX}{}", tensor.name), ..tensor };
        let tensors = std::iter::once(values).chain(moments).map(named).collect();
        let counters = times.into_iter().map(|(name, time)| (format!("{OWN_PREFIX}{name}"), time)).collect();
        (tensors, counters)
    }
}

impl Trainer {
    /// The objective's own numbers at their start; nothing where it has none.
    ///
    /// # Errors
    /// A start that is not finite.
    pub(super) fn start_own(&mut self) -> Result<(), Error> {
        let Some(loss) = self.data_loss() else { return Ok(()) };
        let expected = loss.own_numbers(self.model.level_count());
        if expected == 0 {
            return Ok(());
        }
        let values = loss.own_start(&self.model, Stream::new(self.config.seed, Purpose::Perturbation));
        assert_eq!(values.len(), expected, "as many start values as numbers");
        if !values.iter().all(|value| value.is_finite()) {
            let message = format!(
                "the numbers that objective \"{}\" trains beside the energy start at {values:?}, which is not finite: the starting energy \
                 is too far from the data",
                self.config.objective.kind()
            );
            return Err(Error::failed(message));
        }
        self.own = Some(Own::new(loss, values, &self.config.optimizer, &self.device));
        Ok(())
    }

    /// The objective's own numbers as a checkpoint has them.
    ///
    /// # Errors
    /// A checkpoint that has none where they are needed, or another count of them.
    pub(crate) fn load_own(&mut self, checkpoint: &Checkpoint, origin: &Path) -> Result<(), Error> {
        let expected = self.data_loss().map_or(0, |loss| loss.own_numbers(self.model.level_count()));
        let found = own_numbers(checkpoint);
        let kind = self.config.objective.kind();
        if found.len() != expected {
            let message = format!(
                "it holds {} numbers of the objective's own (`{OWN_PREFIX}values`), and objective \"{kind}\" trains {expected} beside the \
                 energy: it is not a checkpoint of this run",
                found.len()
            );
            return Err(Error::checkpoint(origin, message));
        }
        let Some(loss) = self.data_loss().filter(|_| expected > 0) else { return Ok(()) };
        let mut own = Own::new(loss, found, &self.config.optimizer, &self.device);
        let moments = without_prefix(&checkpoint.optimizer, OWN_PREFIX);
        let time = |name: &str| checkpoint.optimizer_counters.get(&format!("{OWN_PREFIX}{name}")).copied();
        own.optimizer.load_state(&moments, time, &self.device)?;
        self.own = Some(own);
        Ok(())
    }

    /// The numbers after a step against `grad`, and the norm of both gradients together, `[1]`; θ's own where there are none.
    pub(super) fn descend_own(
        &mut self,
        grad: Option<Tensor<1>>,
        norm: Tensor<1>,
    ) -> (Option<Tensor<1>>, Tensor<1>) {
        let (Some(own), Some(grad)) = (&mut self.own, grad) else { return (None, norm) };
        let norm = (norm.clone() * norm + sum(grad.clone() * grad.clone())).sqrt();
        (Some(own.step(self.step, grad)), norm)
    }
}
