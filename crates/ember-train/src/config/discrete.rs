//! What a law of zeros and ones asks of the other tables.

use super::validate::{energy_error, fail};
use super::{Config, WalkerInit};
use crate::error::Error;

/// Objectives whose walkers need nothing but a kernel.
const OBJECTIVES: [&str; 3] = ["jarzynski", "persistent_cd", "contrastive_divergence"];

impl Config {
    /// Bits are moved by kernels of bits, learned from bits, and have no gradient in x.
    pub(super) fn check_discrete(&self) -> Result<(), Error> {
        let energy = self.energy.build(self.dataset.as_dyn().shape()).map_err(energy_error)?;
        let (kind, kernel) = (self.energy.kind(), self.kernel.kernel.as_dyn());
        let (is_discrete, moves_bits) = (energy.hidden_units().is_some(), kernel.moves_bits());
        if !is_discrete {
            let message = format!(
                "\"gibbs\" moves laws of zeros and ones with hidden units, and a {kind} is a density: take \"mala\" or \"ula\", or \
                 energy.kind = \"rbm\""
            );
            return if moves_bits { fail("kernel", "kind", message) } else { Ok(()) };
        }
        let objective = self.objective.kind();
        if !OBJECTIVES.contains(&objective) {
            let known = "take \"jarzynski\", \"persistent_cd\" or \"contrastive_divergence\"";
            let message = match objective {
                "score_matching" => format!(
                    "score matching of a discrete energy: an {kind} has no gradient in x to match: {known}"
                ),
                _ => format!(
                    "\"{objective}\" is for densities, and an {kind} is a law of zeros and ones: {known}"
                ),
            };
            return fail("objective", "kind", message);
        }
        if !moves_bits {
            let message = format!(
                "this kernel moves points of a continuous space, and an {kind} is a law of zeros and ones: take kind = \"gibbs\""
            );
            return fail("kernel", "kind", message);
        }
        if self.kernel.temperature != 1.0 {
            let message = format!("an {kind} is sampled at temperature 1 only: leave this out");
            return fail("kernel", "temperature", message);
        }
        if matches!(self.walkers.init, WalkerInit::Normal | WalkerInit::Uniform) {
            let message = format!(
                "these starts are no zeros and ones, which an {kind} is a law of: take \"model\" or \"data\""
            );
            return fail("walkers", "init", message);
        }
        if self.dataset.as_dyn().augmentation().noise > 0.0 {
            let message =
                format!("an {kind} is a law of zeros and ones, and noisy data are none: set it to 0");
            return fail("dataset", "noise", message);
        }
        Ok(())
    }
}
