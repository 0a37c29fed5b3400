//! What a loss of the data alone, or one of the walkers' last step, asks of the other tables.

use ember_model::Support;
use ember_model::energy::levels::Levels;
use ember_sampler::kernel::{BadValue, Ula};
use ember_sampler::{Boundary, KernelConfig};

use super::Config;
use super::validate::{energy_error, fail};
use crate::error::Error;

impl Config {
    /// The energy has the derivatives that the loss needs, samples are not too long, and nothing lets the walkers into the gradient.
    pub(super) fn check_data_loss(&self) -> Result<(), Error> {
        let Some(loss) = self.objective.as_dyn().data_loss() else { return Ok(()) };
        let (kind, energy) = (self.objective.kind(), self.energy.kind());
        let shape = self.dataset.as_dyn().shape();
        let built = self.energy.build(shape).map_err(energy_error)?;
        let derivatives = built.jet_order();
        if derivatives < loss.derivatives() {
            let message = match derivatives {
                0 => format!(
                    "{}, or objective \"energy_discrepancy\", which is for every energy",
                    no_jets("score matching", energy)
                ),
                _ => format!(
                    "this form needs second derivatives of the energy, and a {energy} whose activation has kinks has none there: \
                     take energy.activation = \"silu\", \"tanh\", \"softplus\" or \"gelu\", or form = \"denoising\""
                ),
            };
            return fail("objective", "kind", message);
        }
        let batch = self.dataset.as_dyn().batch_size();
        let levels = built.levels().map_or(&[][..], Levels::sigmas);
        loss.check_dim(shape.dim())
            .and_then(|()| loss.check_batch(batch))
            .and_then(|()| loss.check_levels(levels))
            .or_else(|BadValue { key, message }| fail("objective", key, message))?;
        if self.energy_spec().support != Support::Unbounded {
            let message = format!(
                "\"{kind}\" is for densities on all of space: at the walls of a cube its loss is another, leave this out"
            );
            return fail("kernel", "boundary", message);
        }
        if self.optimizer.max_weight_change().is_some() {
            let message = format!(
                "it limits what an update does to the walkers' weights, and with \"{kind}\" walkers have none and no part in the \
                 update: leave this out"
            );
            return fail("optimizer", "max_weight_change", message);
        }
        Ok(())
    }

    /// The step is a plain Langevin step, the energy has the derivatives that the loss needs, and there are walkers enough.
    pub(super) fn check_step_loss(&self) -> Result<(), Error> {
        let Some(loss) = self.objective.as_dyn().step_loss() else { return Ok(()) };
        let kind = self.objective.kind();
        let KernelConfig::Ula(Ula { drift_clip, boundary, .. }) = &self.kernel.kernel else {
            let message = format!(
                "\"{kind}\" follows θ through the walkers' last step, which must be that of \"ula\": take it, or objective \
                 \"replay_cd\", which is for every kernel"
            );
            return fail("kernel", "kind", message);
        };
        let plain = |what| {
            format!(
                "\"{kind}\" follows θ through a plain Langevin step, and {what} is none: leave this out, or take objective \"replay_cd\""
            )
        };
        if drift_clip.is_some() {
            return fail("kernel", "drift_clip", plain("a clipped one"));
        }
        if *boundary != Boundary::None {
            return fail("kernel", "boundary", plain("a reflected one"));
        }
        let energy = self.energy.kind();
        let architecture = self.energy.build(self.dataset.as_dyn().shape()).map_err(energy_error)?;
        if architecture.jet_order() < loss.derivatives() {
            let message = format!("{}, or objective \"replay_cd\"", no_jets(&format!("\"{kind}\""), energy));
            return fail("objective", "kind", message);
        }
        let checked = loss.check_walkers(self.walkers.count);
        checked.or_else(|BadValue { key, message }| fail("objective", key, message))
    }
}

fn no_jets(what: &str, energy: &str) -> String {
    format!(
        "{what} needs derivatives of the energy along lines, which a {energy} does not have: take \"mlp\", \"conv\" or \
         \"gaussian_mixture\""
    )
}
