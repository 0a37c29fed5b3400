//! What is minimised, one file per objective. A new objective is one file and one line in the registry below.

mod assisted;
mod conditional_nce;
mod contrastive_divergence;
mod data_loss;
mod denoising;
mod diff_clf;
mod energy_discrepancy;
mod flow_assisted;
mod improved_cd;
mod jarzynski;
mod maximum_likelihood;
mod noise_contrastive;
mod noise_law;
mod persistent_cd;
mod replay_cd;
mod score_matching;
mod step_loss;

use std::fmt::Debug;

use burn::tensor::Tensor;
use ember_model::{Custom, EnergyModel};
use ember_sampler::kernel::BadValue;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers, WeightRule};
use serde::{Deserialize, Serialize};

pub use assisted::{Assisted, Fit};
pub use conditional_nce::ConditionalNce;
pub use contrastive_divergence::ContrastiveDivergence;
pub use data_loss::{DataLoss, Given, LossGradient, NoiseFlow};
pub use denoising::Sigma;
pub use diff_clf::DiffClf;
pub use energy_discrepancy::EnergyDiscrepancy;
pub use flow_assisted::FlowAssisted;
pub use improved_cd::{ImprovedCd, nearest};
pub use jarzynski::Jarzynski;
pub use maximum_likelihood::MaximumLikelihood;
pub use noise_contrastive::{NoiseContrastive, NoiseKind};
pub use persistent_cd::PersistentCd;
pub use replay_cd::ReplayCd;
pub use score_matching::ScoreMatching;
pub use step_loss::{LastStep, StepLoss};

/// The Langevin steps of one update.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Parameter update k, from 0.
    pub update: u64,
    /// Langevin steps K.
    pub steps: u64,
    /// Whether the walkers are a mini-batch last visited some updates ago (ALGORITHMS 1.4): they are then brought to the
    /// model's θ before they move, whatever the kernel's rule, and K steps cost K + 1 gradients.
    pub partial: bool,
}

/// How an objective's walkers follow the energy, and how much each counts in the gradient
/// `G = (1/n) Σ_j ∂_θU(x_j) − Σ_i W_i ∂_θU(X_i) = +∇CE`; or the loss of the data that takes the place of that gradient.
pub trait Objective: Debug + Send + Sync {
    /// Whether the walkers carry log-weights (and so are resampled, and estimate log Z).
    fn carries_weights(&self) -> bool;

    /// Whether the walkers' phase is in the gradient. Without it no walker moves and no kernel step is paid for: right only where
    /// log Z is constant in θ.
    fn has_negative_phase(&self) -> bool {
        true
    }

    /// Whether all walkers begin anew at the data now and then: they then show the data's masses, whatever the model's are, and move all
    /// together.
    fn restarts_at_data(&self) -> bool {
        false
    }

    /// The loss whose gradient θ follows, where that is one of the data alone. The walkers then follow the model with no part in it.
    fn data_loss(&self) -> Option<&dyn DataLoss> {
        None
    }

    /// What the loss holds of the walkers' last step beside the two phases, where it holds any.
    fn step_loss(&self) -> Option<&dyn StepLoss> {
        None
    }

    /// What there is to know about the flow that assists the walkers, where one is trained beside the energy.
    fn assisted(&self) -> Option<Assisted<'_>> {
        None
    }

    /// Checks what its own numbers may be.
    ///
    /// # Errors
    /// The first bad value.
    fn check(&self) -> Result<(), BadValue> {
        Ok(())
    }

    /// λ of the energy regulariser; 0 is none.
    fn energy_l2(&self) -> f64 {
        0.0
    }

    /// Brings the walkers from θ_{k−1} to the model's θ_k; here without weights: they go on from where they were.
    ///
    /// `noise` gives the generator of a Langevin step; `batch` `[n, dim]` is the update's data.
    fn advance(
        &self,
        kernel: &dyn Kernel,
        model: &EnergyModel,
        walkers: Walkers,
        _batch: &Tensor<2>,
        schedule: Schedule,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        let walkers = match kernel.weight_rule() {
            WeightRule::TransitionDensity if !schedule.partial => walkers,
            _ => walkers.refresh(model),
        };
        let (walkers, info) = walk(kernel, model, walkers, schedule, noise);
        (walkers.unweighted(), info)
    }
}

/// K kernel steps at fixed θ; the last may keep its pass for the gradient.
fn walk(
    kernel: &dyn Kernel,
    model: &EnergyModel,
    walkers: Walkers,
    schedule: Schedule,
    noise: &dyn Fn(u64) -> Noise,
) -> (Walkers, Option<StepInfo>) {
    let (walkers, info) = kernel.steps(model, &model.keeping(), walkers, schedule.steps, noise);
    (walkers, (schedule.steps > 0).then_some(info))
}

macro_rules! objectives {
    ($($(#[$doc:meta])* $Variant:ident($Type:ty) = $kind:literal),* $(,)?) => {
        /// The `[objective]` table, tagged by `kind`: the config value is the algorithm.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum ObjectiveConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $Variant($Type),)*
            /// An objective that a program brings itself.
            #[serde(skip)]
            Custom(Custom<dyn Objective>),
        }

        impl ObjectiveConfig {
            /// Every `kind` there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The `kind` of this objective.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Variant(_) => $kind,)* Self::Custom(_) => "custom" }
            }

            /// The objective itself.
            pub fn as_dyn(&self) -> &dyn Objective {
                match self { $(Self::$Variant(objective) => objective,)* Self::Custom(objective) => &**objective }
            }
        }
    };
}

objectives! {
    /// Maximum likelihood with weighted walkers.
    Jarzynski(Jarzynski) = "jarzynski",
    /// Persistent contrastive divergence.
    PersistentCd(PersistentCd) = "persistent_cd",
    /// Persistent contrastive divergence whose walkers begin anew now and then.
    ReplayCd(ReplayCd) = "replay_cd",
    /// That with the way the walkers' last step depends on θ, and with their entropy.
    ImprovedCd(ImprovedCd) = "improved_cd",
    /// Contrastive divergence with restarts at the data.
    ContrastiveDivergence(ContrastiveDivergence) = "contrastive_divergence",
    /// Maximum likelihood of a flow, whose log Z is 0.
    MaximumLikelihood(MaximumLikelihood) = "maximum_likelihood",
    /// Maximum likelihood with walkers that a flow moves between modes.
    FlowAssisted(FlowAssisted) = "flow_assisted",
    /// The data's score, by a loss of the data alone.
    ScoreMatching(ScoreMatching) = "score_matching",
    /// Data against their perturbations.
    EnergyDiscrepancy(EnergyDiscrepancy) = "energy_discrepancy",
    /// Data against noise of a known density; learns log Z beside θ.
    NoiseContrastive(NoiseContrastive) = "noise_contrastive",
    /// Data against their perturbations, one by one.
    ConditionalNce(ConditionalNce) = "conditional_nce",
    /// The data's score at every noise level, and a classifier of levels.
    DiffClf(DiffClf) = "diff_clf",
}
