//! What a run comes to: whether its last state is finite and its walkers carry the model.

use ember_model::Energy;
use ember_model::params::download;
use ember_sampler::reduce;

use super::Trainer;
use super::health::DATA_ADVICE;
use crate::error::Error;

/// Below this ess fraction the weights of the walkers rest on too few of them.
const FEW: f64 = 0.01;
/// An energy gap of this many times the doubtful one is a divergence: no walker is near the data, nor will be.
const HOPELESS: f64 = 1e3;

impl Trainer {
    /// Looks at the state after the last update: call before its checkpoint. What is only doubtful goes to [`Trainer::doubts`]: weights
    /// that rest on few walkers (ess below 1 %), a single ancestor left, an energy gap between data and walkers beyond
    /// `watchdog.max_energy_gap` (10 nats a coordinate unless given; without a limit where the walkers are not in the gradient). One energy of a batch and one gradient of every walker.
    ///
    /// # Errors
    /// A mean energy of data or walkers that is not finite, or a gap of more than a thousand times the doubtful one.
    pub fn judge_end(&mut self) -> Result<(), Error> {
        self.check()?;
        let batch = self.batches.batch(self.step)?;
        let energy_data = f64::from(download(reduce::mean(self.model.energy(batch)))[0]);
        if !energy_data.is_finite() {
            return Err(self.data_not_finite(energy_data, None));
        }
        if !self.has_negative_phase() {
            return Ok(());
        }
        let walkers = self.walkers_at_theta();
        let summary = walkers.summary();
        if !summary.finite {
            return Err(self.non_finite(&walkers));
        }
        let gap = energy_data - summary.energy;
        let most = self.doubtful_gap().unwrap_or(f64::INFINITY);
        if gap.abs() > HOPELESS * most {
            let message = format!(
                "the energy gap between data and walkers is {} nats after the last update, and near 0 where walkers carry the \
                 model: the training has diverged. {DATA_ADVICE}",
                number(gap)
            );
            return Err(Error::Diverged { step: self.step, message });
        }
        let ancestors = walkers.distinct_ancestors();
        let ess = summary.ess / walkers.count() as f64;
        self.doubts = self.doubts_of(gap, most, ess, ancestors);
        Ok(())
    }

    fn doubts_of(&self, gap: f64, most: f64, ess: f64, ancestors: usize) -> Vec<String> {
        let count = self.walkers.count();
        let mut doubts = Vec::new();
        if gap.abs() > most {
            doubts.push(format!(
                "the energy gap between data and walkers is {} nats at the end, and near 0 where walkers carry the model: the \
                 training has diverged or is far from its end. {DATA_ADVICE}, or more steps",
                number(gap)
            ));
        }
        if self.carries_weights() && ess < FEW {
            doubts.push(format!(
                "the ess of the walkers is {:.2} % of them at the end: a few walkers carry nearly all the weight. More \
                 kernel.steps_per_update, a smaller optimizer.learning_rate or optimizer.max_weight_change raises the ess",
                100.0 * ess
            ));
        }
        if self.carries_weights() && count > 1 && ancestors == 1 {
            doubts.push(format!(
                "all {count} walkers descend from one starting walker: their masses cannot be trusted. More \
                 walkers.count or kernel.steps_per_update, or a smaller optimizer.learning_rate, keeps descendants of more of them"
            ));
        }
        doubts
    }
}

/// With one decimal, or an exponent where it is large.
fn number(value: f64) -> String {
    if value.abs() < 1e5 { format!("{value:.1}") } else { format!("{value:.2e}") }
}
