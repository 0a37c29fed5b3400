//! The first family: trained mixtures in five dimensions. log Z and the masses of half-spaces are known in closed form.

use burn::tensor::{Tensor, TensorData};
use ember_model::Energy;
use ember_model::energy::Mixture as Law;
use ember_sampler::FlowProposal;
use ember_train::config::Config;
use ember_train::dataset::Truth;
use ember_train::training::trainer::Trainer;

use super::{Coverage, Plan, Subject};
use crate::configs::small;
use crate::cpu;
use crate::flows::start;

const CONFIG: &str = r#"
steps = 200
dataset.dim = 5
dataset.means = [[-3.0], [2.0]]
dataset.train_size = 500
dataset.test_size = 1
energy = { kind = "gaussian_mixture", means = [[-0.5], [0.5]], means_noise = 0.1 }
walkers.count = 500
optimizer.kind = "sgd"
optimizer.learning_rate = 0.05
audit = { walkers = 500, repeats = 8, every = 200 }
"#;

const FLOW: &str =
    "dim = 5\nkind = \"real_nvp\"\nlayers = 2\nhidden = [8]\nact_norm = true\nmask = \"checkerboard\"";

/// Where the nearest of the data's two centres changes.
const MIDDLE: f64 = -0.5;

/// The family.
pub struct Mixture {
    config: Config,
    truth: Truth,
    flow: FlowProposal,
}

impl Default for Mixture {
    fn default() -> Self {
        Self::new()
    }
}

impl Mixture {
    /// With a flow that covers every model of it: a Gaussian 1.3 times as wide as the data.
    ///
    /// # Panics
    /// Never: its config is valid.
    pub fn new() -> Self {
        let config = Config::from_toml(&small(CONFIG), "coverage").expect("a valid config");
        let truth = config.dataset.as_dyn().truth().expect("a known law");
        let (count, dim) = (2_000, 5);
        let rows: Vec<f32> = truth.draw(count, 1, 0).into_iter().map(|x| 1.3 * x).collect();
        let rows = Tensor::from_data(TensorData::new(rows, [count, dim]), &cpu());
        let flow = start(FLOW, &cpu()).with_data_init(rows);
        Self { config, truth, flow: FlowProposal::of(&flow).expect("a flow") }
    }

    /// A run of 200 updates.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, seed: u64) -> Run {
        let mut trainer = Trainer::new(Config { seed, ..self.config.clone() }, &cpu()).expect("a trainer");
        for _ in 0..self.config.steps {
            trainer.update(false).expect("an update");
        }
        Run { trainer, seed }
    }
}

/// A run at its end.
pub struct Run {
    trainer: Trainer,
    seed: u64,
}

impl Run {
    /// Takes in every interval.
    ///
    /// # Panics
    /// If an estimate fails.
    pub fn judge(&self, family: &Mixture, plan: Plan, found: &mut Coverage) {
        let model = &self.trainer.model;
        let subject = Subject {
            family: "mixture d = 5",
            model,
            audit: self.trainer.audit.as_ref().expect("an audit"),
            flow: &family.flow,
            truth: &family.truth,
            log_z: model.log_z().expect("a mixture"),
            mass: below(&model.mixture().expect("a mixture"), MIDDLE),
            seed: self.seed,
            is_resampled_often: false,
        };
        found.judge(&subject, plan);
    }

    /// The error of the on-line log Z, which is never reported as the model's.
    ///
    /// # Panics
    /// Never: the model is a mixture.
    pub fn online_error(&self) -> f64 {
        let walkers = self.trainer.walkers_at_theta();
        let exact = self.trainer.model.log_z().expect("a mixture");
        walkers.log_z.value() + walkers.summary().log_mean_exp - exact
    }
}

/// The mass at `x_0 < at`: `Σ_k π_k Φ(at − m_k0)`.
fn below(mixture: &Law, at: f64) -> f64 {
    mixture.means.iter().zip(&mixture.masses).map(|(mean, mass)| mass * normal_cdf(at - mean[0])).sum()
}

/// Φ by the midpoint rule, to 10⁻⁸.
fn normal_cdf(x: f64) -> f64 {
    let (cells, low) = (20_000, -10.0f64);
    let width = (x - low) / f64::from(cells);
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (0..cells).map(|i| width * density(low + (f64::from(i) + 0.5) * width)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_law() {
        for (x, exact) in [(0.0, 0.5), (1.0, 0.841_344_746_068_543), (-3.0, 0.001_349_898_031_630)] {
            assert!((normal_cdf(x) - exact).abs() < 1e-7, "{x}");
        }
    }
}
