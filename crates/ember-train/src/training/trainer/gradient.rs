//! The gradient of an update: its rows and their weights, and the mean energies on the way.

use burn::tensor::Tensor;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, WeightedGrads};
use ember_sampler::reduce;

use super::{NegativePhase, Trainer};
use crate::error::Error;
use crate::training::objective::{DataLoss, LastStep, LossGradient};

/// The gradient of an update.
pub(super) struct Gradient {
    /// One flat gradient a parameter.
    pub grads: Vec<Tensor<1>>,
    /// Mean energies of the batch and of the walkers, `[1]` each, where they were asked for.
    pub energies: [Option<Tensor<1>>; 2],
    /// The loss that it is the gradient of, `[1]`, where that is one of the data alone.
    pub loss: Option<Tensor<1>>,
    /// Its derivative in the objective's own numbers, `[k]`, where there are any.
    pub own: Option<Tensor<1>>,
}

impl Trainer {
    /// The loss of the data alone that the objective minimises, where it is one.
    pub(super) fn data_loss(&self) -> Option<&dyn DataLoss> {
        match &self.fitted {
            Some(fitted) => Some(&*fitted.loss),
            None => self.config.objective.as_dyn().data_loss(),
        }
    }

    /// Whether the objective minimises a loss of the data alone.
    pub(super) fn has_data_loss(&self) -> bool {
        self.config.objective.as_dyn().data_loss().is_some()
    }

    /// The gradient of this update: that of the objective's own loss, or that of the two phases' `terms`.
    ///
    /// # Errors
    /// As `DataLoss::gradient`.
    pub(super) fn gradient(
        &self,
        terms: &[(Tensor<2>, Tensor<1>)],
        negative: Option<&NegativePhase>,
        log: bool,
    ) -> Result<Gradient, Error> {
        let stream = Stream::new(self.config.seed, Purpose::Perturbation).at(self.step)?;
        let Some(data_loss) = self.data_loss() else {
            let found = self.by_phases(terms, negative);
            let energies = self.mean_energies(&found.energies, negative, log);
            let grads = self.with_step_loss(found.grads, negative, stream)?;
            return Ok(Gradient { grads, energies, loss: None, own: None });
        };
        let batch = &terms[0].0;
        let values = self.own.as_ref().map(|own| &own.values);
        let LossGradient { grads, own, loss } = data_loss.gradient(&self.model, values, batch, stream)?;
        let energies = match self.reads_energies(log) {
            true => {
                let walkers = negative.iter().map(|phase| phase.seen.energy.clone());
                let energies: Vec<_> =
                    std::iter::once(self.model.energy(batch.clone())).chain(walkers).collect();
                self.mean_energies(&energies, negative, log)
            }
            false => [None, None],
        };
        Ok(Gradient { grads, energies, loss: Some(loss), own })
    }

    /// With that of the walkers' last step, where the objective has a loss of it: of the same sign as the others.
    fn with_step_loss(
        &self,
        grads: Vec<Tensor<1>>,
        negative: Option<&NegativePhase>,
        stream: Stream,
    ) -> Result<Vec<Tensor<1>>, Error> {
        let own = self.config.objective.as_dyn().step_loss();
        let step_size = self.step_size.or_else(|| self.config.kernel.kernel.as_dyn().step_size());
        let (Some(own), Some(phase), Some(step_size)) = (own, negative, step_size) else { return Ok(grads) };
        let Some(before) = &phase.before else { return Ok(grads) };
        let (after, population, first) = (&phase.seen, &self.walkers.position, phase.first);
        let step = LastStep { before, after, step_size, population, first };
        let added = own.gradient(&self.model, &step, stream)?.grads;
        let sign = self.gradient_sign();
        Ok(grads.into_iter().zip(added).map(|(grad, added)| grad + added.mul_scalar(sign)).collect())
    }

    /// The rows of the gradient `G = (1/n) Σ_j ∂_θU(x_j) − Σ_i W_i ∂_θU(X_i)` (Carbone et al. 2023, Alg. 1) and their weights: on a GPU
    /// those of `−G`, so that no launch changes signs. Of an objective of the data alone, the data.
    pub(super) fn terms(
        &self,
        batch: Tensor<2>,
        negative: Option<&NegativePhase>,
    ) -> Vec<(Tensor<2>, Tensor<1>)> {
        let l2 = self.config.objective.as_dyn().energy_l2();
        // λ ∂ E[e²] = 2λ E[e ∂U]
        let regulariser = |u: Tensor<1>, x: Tensor<2>| self.unconfined(u, x).mul_scalar(2.0 * l2);
        let mut data_weights = self.data_weights.clone();
        if l2 > 0.0 {
            let e = regulariser(self.model.energy(batch.clone()), batch.clone());
            data_weights = data_weights.clone() + data_weights * e;
        }
        let mut terms = vec![(batch, data_weights)];
        if let Some(NegativePhase { seen, seen_weights, .. }) = negative.filter(|_| !self.has_data_loss()) {
            let mut walker_weights = seen_weights.clone();
            if !self.is_on_gpu() {
                walker_weights = walker_weights.neg();
            }
            if l2 > 0.0 {
                let e = regulariser(seen.energy.clone(), seen.position.clone());
                walker_weights = walker_weights.clone() - walker_weights * e;
            }
            terms.push((seen.position.clone(), walker_weights));
        }
        terms
    }

    /// Whether somebody asks for the mean energies: always, but on a GPU.
    fn reads_energies(&self, log: bool) -> bool {
        !self.is_on_gpu() || log || self.max_gap().is_some() || self.model.flow().is_some()
    }

    /// Mean energies of the batch and of the walkers, `[1]` each. On a GPU only where somebody asks.
    fn mean_energies(
        &self,
        energies: &[Tensor<1>],
        negative: Option<&NegativePhase>,
        log: bool,
    ) -> [Option<Tensor<1>>; 2] {
        if !self.reads_energies(log) {
            return [None, None];
        }
        let walkers = match negative {
            Some(phase) => Some(reduce::sum(energies[1].clone() * phase.seen_weights.clone())),
            None => log.then(|| reduce::mean(self.walkers.energy.clone())),
        };
        [Some(reduce::mean(energies[0].clone())), walkers]
    }

    /// `Σ_t Σ_b w_{t,b} ∂_θU(x_{t,b})` of the data and, with a negative phase, of the walkers: from their last evaluation where that
    /// was kept.
    fn by_phases(&self, terms: &[(Tensor<2>, Tensor<1>)], negative: Option<&NegativePhase>) -> WeightedGrads {
        let kept = negative.and_then(|phase| Some((phase.pass.as_ref()?, &phase.seen)));
        let Some((pass, seen)) = kept else {
            return self.model.weighted_param_grads(terms);
        };
        let mut found = self.model.weighted_param_grads(&terms[..1]);
        let walkers = pass.weighted_param_grads(&terms[1].1);
        found.grads = found.grads.into_iter().zip(walkers).map(|(data, walkers)| data + walkers).collect();
        found.energies.push(seen.energy.clone());
        found
    }
}
