//! The second family: a tilted energy in eight dimensions whose log Z and masses are integrals along single coordinates.
//!
//! The base is a flow of one coupling with an act-norm: `x_a = s ∘ z_a` for the first half of the coordinates, and the other half is
//! `z_b` scaled and shifted by a network of `x_a`. The tilt is a perceptron of which every unit sees one coordinate of the first half,
//! `f(x) = c + Σ_u v_u tanh(w_u x_{j(u)} + b_u)`. The second half integrates to 1 whatever the first is, so
//! `Z = e^{−c} Π_{j < 4} ∫ N(x; 0, s_j²) e^{−f_j(x)} dx`; the masses of `x_0 < 0` and `x_0 > 0` are those of the first factor. By the
//! trapezoidal rule, whose error on analytic integrands is below rounding.
//!
//! A run follows θ from the base to the whole tilt along a fixed path, with an audit as training has it.

use ember_model::params::upload;
use ember_model::{EnergyModel, EnergySpec};
use ember_sampler::evidence::Ensembles;
use ember_sampler::kernel::Ula;
use ember_sampler::{FlowProposal, Scheme};
use ember_train::config::{AuditConfig, Config};
use ember_train::dataset::Truth;
use ember_train::training::start;

use super::{Coverage, Plan, REPEATS, Subject, WALKERS};
use crate::cpu;

const DIM: usize = 8;
/// The standard deviations of the first half.
const SCALES: [f64; DIM / 2] = [1.5, 1.0, 1.25, 0.75];
/// c.
const CONSTANT: f32 = 0.25;
/// Units: `(j, w, b, v)`. Two of the first coordinate make a barrier between its modes, a third their masses unequal.
const UNITS: [(usize, f32, f32, f32); 7] = [
    (0, 2.0, 2.0, 1.5),
    (0, 2.0, -2.0, -1.5),
    (0, 1.0, 0.0, 0.4),
    (1, 1.0, 0.0, 0.8),
    (1, 2.0, 0.5, -0.5),
    (2, 1.5, 0.5, -0.6),
    (3, 1.0, -1.0, 0.7),
];
/// Updates of a run.
const UPDATES: u64 = 100;
/// The audit is resampled below this ess fraction: often.
const THRESHOLD: f64 = 0.95;

const ENERGY: &str = r#"
kind = "tilted"
dim = 8
base = { kind = "real_nvp", layers = 1, hidden = [4], activation = "tanh", act_norm = true }
tilt = { kind = "mlp", hidden = [7], activation = "tanh" }
"#;

/// The law whose modes and draws masses are had from: wider than the model.
const LAW: &str = r#"
steps = 1
[dataset]
kind = "gaussian_mixture"
dim = 8
means = [[-1.8], [1.8]]
weights = [0.5, 0.5]
std = 1.3
train_size = 1
test_size = 1
[energy]
kind = "gaussian_mixture"
means = [[-1.8], [1.8]]
[walkers]
count = 1
[kernel]
kind = "ula"
step_size = 0.1
[objective]
kind = "jarzynski"
[optimizer]
kind = "sgd"
learning_rate = 0.1
"#;

/// The family.
pub struct Tilted {
    /// The whole tilt on its base.
    pub model: EnergyModel,
    /// Its log Z.
    pub log_z: f64,
    /// The mass of `x_0 < 0`.
    pub mass: f64,
    path: Vec<EnergyModel>,
    start: EnergyModel,
    flow: FlowProposal,
    truth: Truth,
}

impl Default for Tilted {
    fn default() -> Self {
        Self::new()
    }
}

impl Tilted {
    /// The family, with its exact answers.
    ///
    /// # Panics
    /// Never: its tables are valid.
    pub fn new() -> Self {
        let law = Config::from_toml(LAW, "law").expect("a valid config");
        let model = at(1.0);
        let factors = (0..DIM / 2).map(|j| factor(j, f64::NEG_INFINITY, f64::INFINITY));
        let log_z = factors.map(f64::ln).sum::<f64>() - f64::from(CONSTANT);
        let mass = factor(0, f64::NEG_INFINITY, 0.0) / factor(0, f64::NEG_INFINITY, f64::INFINITY);
        Self {
            log_z,
            mass,
            path: (1..=UPDATES).map(|k| at(k as f64 / UPDATES as f64)).collect(),
            start: at(0.0),
            flow: FlowProposal::of(&model).expect("its base"),
            truth: law.dataset.as_dyn().truth().expect("a known law"),
            model,
        }
    }

    /// The audit of a run, at the whole tilt.
    ///
    /// # Panics
    /// If it cannot be drawn or moved.
    pub fn audit(&self, seed: u64) -> Ensembles {
        let config = AuditConfig { walkers: WALKERS, repeats: REPEATS, every: UPDATES };
        let mut audit = start::audit(&config, &self.start, seed, &cpu()).expect("exact draws");
        for (update, model) in (0..).zip(&self.path) {
            audit.advance(&Ula::new(0.05), 1, model, seed, update, 1).expect("a step");
            audit.resample(Scheme::Systematic, THRESHOLD, seed, update).expect("a step");
        }
        audit
    }

    /// A run, and every interval of its end.
    ///
    /// # Panics
    /// If an estimate fails.
    pub fn run(&self, seed: u64, plan: Plan, found: &mut Coverage) {
        let subject = Subject {
            family: "tilted d = 8",
            model: &self.model,
            audit: &self.audit(seed),
            flow: &self.flow,
            truth: &self.truth,
            log_z: self.log_z,
            mass: self.mass,
            seed,
            is_resampled_often: true,
        };
        found.judge(&subject, plan);
    }
}

/// The energy with `share` of the tilt.
fn at(share: f64) -> EnergyModel {
    let spec = EnergySpec::from_metadata(ENERGY).expect("a valid table");
    let model = EnergyModel::init(spec, 0, &cpu()).expect("it fits");
    let theta = model.params().into_iter().map(|spec| {
        let value = |i: usize| -> f32 {
            match spec.name.as_str() {
                "tilt.layers.0.weight" => {
                    let (j, w, ..) = UNITS[i / DIM];
                    if i % DIM == j { w } else { 0.0 }
                }
                "tilt.layers.0.bias" => UNITS[i].2,
                "tilt.layers.1.weight" => (share * f64::from(UNITS[i].3)) as f32,
                "tilt.layers.1.bias" => (share * f64::from(CONSTANT)) as f32,
                "base.couplings.0.act_norm.log_scale" => SCALES.get(i).map_or(0.0, |scale| scale.ln() as f32),
                "base.couplings.0.layers.0.weight" => 0.3 - 0.1 * (i % 3) as f32,
                // Scales between e^{±.3}, and shifts.
                "base.couplings.0.layers.1.weight" => 0.075 * if i.is_multiple_of(5) { -1.0 } else { 1.0 },
                _ => 0.0,
            }
        };
        upload((0..spec.len()).map(value).collect(), &cpu())
    });
    let theta = theta.collect();
    model.with_theta(theta)
}

/// `∫ N(x; 0, s_j²) e^{−f_j(x)} dx` from `low` to `high`.
fn factor(j: usize, low: f64, high: f64) -> f64 {
    let scale = SCALES[j];
    let tilt = |x: f64| -> f64 {
        let own = UNITS.iter().filter(|unit| unit.0 == j);
        own.map(|&(_, w, b, v)| f64::from(v) * (f64::from(w) * x + f64::from(b)).tanh()).sum()
    };
    let density =
        |x: f64| (-0.5 * (x / scale).powi(2) - tilt(x)).exp() / (scale * (2.0 * std::f64::consts::PI).sqrt());
    let (low, high) = (low.max(-12.0 * scale), high.min(12.0 * scale));
    let cells = 1 << 16;
    let width = (high - low) / f64::from(cells);
    let ends = 0.5 * (density(low) + density(high));
    width * (ends + (1..cells).map(|i| density(low + f64::from(i) * width)).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use ember_model::Energy;
    use ember_model::params::download;
    use ember_model::random::{Purpose, Stream};
    use ember_sampler::statistics::ess_fraction;

    use super::*;
    use crate::{assert_within_se, mean_se};

    /// The first half of the flow's coordinates is scaled and nothing else, the other half is not; so the integrals are those of the energy:
    /// a million draws of the base agree with them.
    #[test]
    fn the_integrals_are_those_of_the_energy() {
        let family = Tilted::new();
        let (x, _) = family.flow.sample(1_000_000, Stream::new(9, Purpose::Sample));
        let (z, _) = family.flow.inverse(x.clone().narrow(0, 0, 1_000));
        let (rows, latents) = (download(x.clone()), download(z));
        let off = |j: usize| {
            let gaps = rows.chunks_exact(DIM).zip(latents.chunks_exact(DIM));
            gaps.map(|(x, z)| {
                (f64::from(x[j]) / SCALES.get(j).copied().unwrap_or(1.0) - f64::from(z[j])).abs()
            })
            .fold(0.0, f64::max)
        };
        assert!((0..DIM / 2).all(|j| off(j) < 1e-5), "{:?}", (0..DIM).map(off).collect::<Vec<_>>());
        assert!((DIM / 2..DIM).all(|j| off(j) > 0.1), "{:?}", (0..DIM).map(off).collect::<Vec<_>>());
        let tilt = family.model.tilt_part().expect("a tilt");
        let log_w: Vec<f64> = download(tilt.energy(x)).into_iter().map(|f| -f64::from(f)).collect();
        let (z, se) = mean_se(&log_w.iter().map(|log_w| log_w.exp()).collect::<Vec<_>>());
        println!(
            "log Z {:.5}, by draws {:.5} ± {:.5}; ess {:.2}",
            family.log_z,
            z.ln(),
            se / z,
            ess_fraction(&log_w)
        );
        assert_within_se(z.ln(), family.log_z, se / z, 4.0);
        let below = log_w
            .iter()
            .zip(rows.chunks_exact(DIM))
            .map(|(log_w, x)| log_w.exp() * f64::from(u8::from(x[0] < 0.0)));
        let (below, se) = mean_se(&below.collect::<Vec<_>>());
        println!("mass {:.4}, by draws {:.4} ± {:.4}", family.mass, below / z, se / z);
        assert_within_se(below / z, family.mass, se / z, 4.0);
    }
}
