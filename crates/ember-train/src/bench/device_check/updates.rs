//! Updates of each objective: the same seed on the device and on `flex`.
//!
//! By SGD: after a step of Adam a weight whose gradient is of rounding's size has moved by the whole learning rate, to either side,
//! and the devices have parted though both are right. Three updates, since the start has a zero last layer and moves nothing else.

use burn::tensor::Device;

use super::{Check, Expected, Found};
use crate::config::Config;
use crate::error::Error;
use crate::training::objective::ObjectiveConfig;
use crate::training::trainer::Trainer;

const UPDATES: u64 = 3;
/// Of the largest change of the tensor: gradients agree to some 10⁻⁶ of the size of what they add up, and both phases cancel to
/// a few hundredths of it; 10⁻⁵ was the most found on software Vulkan.
const ALLOWED: f64 = 2e-4;

/// A small run of an objective; `None` for one that has no example here.
fn example(kind: &str) -> Option<String> {
    const MLP: &str = "[energy]\nkind = \"mlp\"\nhidden = [32, 32]\nconfinement = 1.0\n";
    const ULA: &str = "[kernel]\nkind = \"ula\"\nstep_size = 0.05\nsteps_per_update = 4\n";
    const MALA: &str = "[kernel]\nkind = \"mala\"\nstep_size = 0.1\nsteps_per_update = 4\n";
    const FLOW: &str = "[energy]\nkind = \"real_nvp\"\nlayers = 3\nhidden = [16, 16]\nact_norm = true\n";
    const FLOW_MH: &str = "[kernel]\nkind = \"flow_mh\"\nlocal_steps = 1\nstep_size = 0.05\n\
        [pretrain]\nsteps = 3\nlearning_rate = 1e-6\nbatch_size = 20\n";
    // The proposal flow is fitted by Adam: with this rate it does not move, see above.
    const PROPOSAL: &str = "proposal = { kind = \"real_nvp\", layers = 2, hidden = [8], act_norm = true }\n\
        proposal_learning_rate = 1e-6\nproposal_batch_size = 20\n";
    let (tables, objective) = match kind {
        "jarzynski" | "contrastive_divergence" => (format!("{MLP}{ULA}"), ""),
        "persistent_cd" | "replay_cd" => (format!("{MLP}{MALA}"), ""),
        "improved_cd" => (format!("{MLP}{ULA}"), ""),
        "maximum_likelihood" => (FLOW.to_owned(), ""),
        "flow_assisted" => (format!("{MLP}{FLOW_MH}"), PROPOSAL),
        "score_matching" => (format!("{MLP}{ULA}"), "form = \"sliced\"\n"),
        "energy_discrepancy" => (format!("{MLP}{ULA}"), "t = 0.5\nsamples = 4\n"),
        "noise_contrastive" => (format!("{MLP}{ULA}"), "ratio = 2.0\n"),
        "conditional_nce" => (format!("{MLP}{ULA}"), "sigma = 1.0\nsamples = 4\n"),
        "diff_clf" => (format!("{MLP}levels = [0.5, 1.0, 2.0]\n{ULA}"), ""),
        _ => return None,
    };
    Some(format!(
        "seed = 5\nsteps = 10\n\
         [dataset]\nkind = \"toy2d\"\nname = \"two_modes\"\ntrain_size = 500\ntest_size = 100\nbatch_size = 150\n\
         {tables}\
         [walkers]\ncount = 150\n\
         [resampling]\nscheme = \"none\"\n\
         [objective]\nkind = \"{kind}\"\n{objective}\
         [optimizer]\nkind = \"sgd\"\nlearning_rate = 0.1\n"
    ))
}

pub(super) fn rows(check: &mut Check<'_>) {
    let device = check.device();
    for kind in ObjectiveConfig::KINDS {
        let Some(text) = example(kind) else { continue };
        let trained = |updates: u64, device: &Device| -> Found {
            let mut trainer = Trainer::new(Config::from_toml(&text, "the check")?, device)?;
            for _ in 0..updates {
                trainer.update(false)?;
            }
            Ok(trainer.model.host_theta())
        };
        let what = format!("{UPDATES} updates, {kind}");
        let reference =
            trained(0, &Device::flex()).and_then(|start| Ok((start, trained(UPDATES, &Device::flex())?)));
        match reference {
            Ok((start, end)) => {
                let expected: Vec<Expected> =
                    start.iter().zip(&end).map(|(start, end)| changed(start, end)).collect();
                check.row(what, "flex", ALLOWED, &expected, || trained(UPDATES, &device));
            }
            Err(error) => {
                let message = error.to_string();
                check.row(what, "flex", ALLOWED, &[], || Err(Error::failed(message.clone())));
            }
        }
    }
}

/// Differences are fractions of the tensor's largest change, and where that is less than 10⁻³ of its largest value, of this: the
/// rounding of θ itself is 10⁻⁷ of it.
fn changed(start: &[f32], end: &[f32]) -> Expected {
    let largest =
        |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |largest: f64, v| largest.max(v.abs()));
    let change = largest(&mut start.iter().zip(end).map(|(a, b)| f64::from(b - a)));
    let size = largest(&mut end.iter().map(|&v| f64::from(v)));
    Expected::of_size(end.iter().copied(), change.max(1e-3 * size).max(f64::from(f32::MIN_POSITIVE)))
}
