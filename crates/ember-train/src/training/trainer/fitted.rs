//! A loss with what it takes from the data or from a flow before the run, and the flow that follows: noise-contrastive estimation.

use std::path::Path;

use burn::tensor::Tensor;
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyModel, EnergySpec, HostTensor};

use super::Trainer;
use crate::error::Error;
use crate::store::checkpoint::Checkpoint;
use crate::store::record::{NOISE_PREFIX, named_theta, without_prefix};
use crate::training::objective::{DataLoss, Given};
use crate::training::optimizer::Optimizer;
use crate::training::{pretrain, start};

/// The loss, ready.
pub(crate) struct Fitted {
    pub loss: Box<dyn DataLoss>,
    /// The flow that its noise is drawn from, with what moves it where it is not fixed.
    flow: Option<(EnergyModel, Option<Optimizer>)>,
}

impl Fitted {
    /// Whether all parameters of the flow are finite.
    pub fn is_finite(&self) -> bool {
        self.flow.iter().flat_map(|(flow, _)| flow.host_theta()).flatten().all(f32::is_finite)
    }

    /// The tensors and counters of a checkpoint: those of the flow, so that the run needs no other file.
    pub fn state(&self) -> (Vec<HostTensor>, Vec<(String, u64)>) {
        let Some((flow, optimizer)) = &self.flow else { return (Vec::new(), Vec::new()) };
        let mut tensors = named_theta(flow, &format!("{NOISE_PREFIX}flow."));
        let (moments, times) = optimizer.as_ref().map(Optimizer::state).unwrap_or_default();
        let named =
            |tensor: HostTensor| HostTensor { name: format!("{NOISE_PREFIX}{}", tensor.name), ..tensor };
        tensors.extend(moments.into_iter().map(named));
        (tensors, times.into_iter().map(|(name, time)| (format!("{NOISE_PREFIX}{name}"), time)).collect())
    }
}

impl Trainer {
    /// Makes the objective's loss ready, with the flow of a checkpoint where one is given.
    ///
    /// # Errors
    /// As [`start::noise_flow`] and [`DataLoss::fitted`].
    pub(super) fn fit_loss(&mut self, flow: Option<EnergyModel>) -> Result<(), Error> {
        let (config, data) = (&self.config, &self.data);
        let Some(loss) = config.objective.as_dyn().data_loss() else { return Ok(()) };
        let noise = loss.noise_flow();
        let flow = match (flow, noise) {
            (None, Some(noise)) => Some(start::noise_flow(noise, config, data, &self.device)?),
            (flow, _) => flow,
        };
        let loss = self.ready(flow.as_ref())?;
        let rate = noise.and_then(|noise| noise.learning_rate);
        let optimizer = |flow: &EnergyModel| rate.map(|rate| pretrain::optimizer(flow, rate, None));
        let flow = flow.map(|flow| {
            let optimizer = optimizer(&flow);
            (flow, optimizer)
        });
        self.fitted = loss.map(|loss| Fitted { loss, flow });
        Ok(())
    }

    fn ready(&self, flow: Option<&EnergyModel>) -> Result<Option<Box<dyn DataLoss>>, Error> {
        let Some(loss) = self.config.objective.as_dyn().data_loss() else { return Ok(None) };
        let augmentation = self.config.dataset.as_dyn().augmentation();
        loss.fitted(Given { data: &self.data, augmentation, flow, device: &self.device })
    }

    /// [`Trainer::fit_loss`] with the flow that a checkpoint holds.
    ///
    /// # Errors
    /// A checkpoint without the flow that the objective needs.
    pub(crate) fn load_loss(&mut self, checkpoint: &Checkpoint, origin: &Path) -> Result<(), Error> {
        let Some(noise) = self.config.noise_flow() else { return self.fit_loss(None) };
        let spec = EnergySpec::new(self.data.shape, noise.table.clone());
        let tensors = without_prefix(&checkpoint.optimizer, &format!("{NOISE_PREFIX}flow."));
        let flow = EnergyModel::from_tensors(spec, tensors, &self.device)
            .map_err(|error| Error::checkpoint(origin, format!("the flow of objective.flow: {error}")))?;
        self.fit_loss(Some(flow))?;
        let moments = without_prefix(&checkpoint.optimizer, NOISE_PREFIX);
        let time = |name: &str| checkpoint.optimizer_counters.get(&format!("{NOISE_PREFIX}{name}")).copied();
        if let Some(Fitted { flow: Some((_, Some(optimizer))), .. }) = &mut self.fitted {
            optimizer.load_state(&moments, time, &self.device)?;
        }
        Ok(())
    }

    /// One step of the noise's flow up the loss of this update, at the θ that it was taken at; nothing where the noise is fixed.
    ///
    /// # Errors
    /// An update number beyond 32 bits.
    pub(super) fn follow_with_noise(&mut self, batch: &Tensor<2>) -> Result<(), Error> {
        let Some(Fitted { loss, flow: Some((flow, Some(optimizer))) }) = &mut self.fitted else {
            return Ok(());
        };
        let stream = Stream::new(self.config.seed, Purpose::Perturbation).at(self.step)?;
        let own = self.own.as_ref().map(|own| &own.values);
        let Some(grads) = loss.flow_gradient(&self.model, own, batch, stream) else { return Ok(()) };
        let uphill = grads.into_iter().map(Tensor::neg).collect();
        let next = optimizer.step_model(self.step, flow, uphill).0;
        let loss = self.ready(Some(&next))?;
        if let (Some(Fitted { loss: old, flow: Some((flow, _)) }), Some(loss)) = (&mut self.fitted, loss) {
            (*old, *flow) = (loss, next);
        }
        Ok(())
    }
}
