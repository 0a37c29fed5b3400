//! How often 95 % intervals hold the exact value: log Z by every estimator of `ember eval`, and masses of modes, over runs of two families of
//! known answer ([`mixture`], [`tilted`]).

pub mod mixture;
pub mod tilted;

use std::fmt;
use std::ops::Range;

use ember_model::params::download;
use ember_model::{Energy, EnergyModel};
use ember_sampler::FlowProposal;
use ember_sampler::evidence::Ensembles;
use ember_sampler::evidence::ais::{AisOptions, of_model};
use ember_sampler::evidence::smc::tempered;
use ember_sampler::statistics::{Estimate, ess_fraction, t95};
use ember_train::dataset::{Modes, Truth};
use ember_train::judging::estimator::Estimator;
use ember_train::judging::eval_options::EvalOptions;
use ember_train::judging::log_z::log_z;
use ember_train::judging::masses::{by_ensembles, by_importance};

use crate::mean_se;

/// Repeats of an audit, and of `ember eval` unless told otherwise.
pub const REPEATS: usize = 8;
/// Walkers of a repeat.
const WALKERS: usize = 500;
/// Repeats of masses by importance sampling.
const MASS_REPEATS: usize = 16;

/// What an interval is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Holds the exact value 95 times in 100.
    Exactly,
    /// Holds it 95 times in 100 or more: between two sides, each with its error.
    AtLeast,
    /// Nothing: a wrong standard error, which must be seen.
    Broken,
    /// No interval: a value that is below the exact one on average.
    Below,
    /// No interval: a value that is above the exact one on average.
    Above,
}

/// Intervals of one estimator of one quantity, a run each.
#[derive(Clone, Debug)]
pub struct Intervals {
    /// The family, the estimator and the quantity.
    pub name: [String; 3],
    /// What they are said to be.
    pub claim: Claim,
    held: usize,
    errors: Vec<f64>,
}

impl Intervals {
    /// The share of intervals that hold the exact value.
    pub fn share(&self) -> f64 {
        self.held as f64 / self.errors.len() as f64
    }

    /// Whether the share is as claimed, to within `allowed`.
    pub fn is_as_claimed(&self, allowed: f64) -> bool {
        let off = self.share() - 0.95;
        match self.claim {
            Claim::Exactly => off.abs() <= allowed,
            Claim::AtLeast => off >= -allowed,
            Claim::Broken => off < -allowed,
            Claim::Below => self.bias().0 <= 4.0 * self.bias().1,
            Claim::Above => self.bias().0 >= -4.0 * self.bias().1,
        }
    }

    /// The mean error and its standard error.
    pub fn bias(&self) -> (f64, f64) {
        mean_se(&self.errors)
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, runs) = (self.share(), self.errors.len());
        let share_se = (share * (1.0 - share) / runs as f64).sqrt();
        let ([family, estimator, quantity], (bias, bias_se)) = (&self.name, self.bias());
        write!(f, "{family}; {estimator}; {quantity}: ")?;
        if !matches!(self.claim, Claim::Below | Claim::Above) {
            write!(f, "{:.1} ± {:.1} % of {runs}; ", 100.0 * share, 100.0 * share_se)?;
        }
        write!(f, "mean error {bias:+.5} ± {bias_se:.5}")
    }
}

/// What is looked at in every run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Repeats of tempered SMC, an estimate for each: two counts tell t-quantiles of few repeats from a bias, which covers less with more.
    pub smc: &'static [usize],
    /// Whether the flow's estimators, AIS and masses are looked at, beside the audit and tempered SMC.
    pub all: bool,
}

impl Plan {
    /// The audit and tempered SMC.
    pub const FEW: Self = Self { smc: &[REPEATS], all: false };
    /// Everything.
    pub const ALL: Self = Self { smc: &[REPEATS, 4 * REPEATS], all: true };
}

/// A family after one of its runs: what is judged, and the right answer.
pub struct Subject<'a> {
    /// The family's name.
    pub family: &'static str,
    /// The model.
    pub model: &'a EnergyModel,
    /// Its audit.
    pub audit: &'a Ensembles,
    /// A flow that covers the model.
    pub flow: &'a FlowProposal,
    /// A law with the modes.
    pub truth: &'a Truth,
    /// log Z.
    pub log_z: f64,
    /// The mass of the first of two modes.
    pub mass: f64,
    /// Seed of the estimates.
    pub seed: u64,
    /// Whether the audit's walkers are far from independent, so that a standard error that takes them for it must be seen.
    pub is_resampled_often: bool,
}

/// Intervals by name, in the order in which they came up.
#[derive(Clone, Debug, Default)]
pub struct Coverage(pub Vec<Intervals>);

impl Coverage {
    fn see(
        &mut self,
        [family, estimator, quantity]: [&str; 3],
        claim: Claim,
        [low, high]: [f64; 2],
        exact: f64,
    ) {
        let name = [family, estimator, quantity].map(str::to_owned);
        let found = self.0.iter().position(|intervals| intervals.name == name);
        let index = found.unwrap_or_else(|| {
            self.0.push(Intervals { name, claim, held: 0, errors: Vec::new() });
            self.0.len() - 1
        });
        self.0[index].held += usize::from(low <= exact && exact <= high);
        self.0[index].errors.push(0.5 * (low + high) - exact);
    }

    /// Takes in every interval of a subject.
    ///
    /// # Panics
    /// If an estimate fails, or is doubtful or withheld.
    pub fn judge(&mut self, subject: &Subject<'_>, plan: Plan) {
        let Subject { family, model, seed, .. } = *subject;
        let modes = subject.truth.modes.as_ref().expect("a law with modes");
        let flow = Some(subject.flow).filter(|_| plan.all);
        let estimators = if plan.all { vec![Estimator::Importance, Estimator::Bridge] } else { Vec::new() };
        let options = EvalOptions {
            repeats: REPEATS,
            seed,
            smc_walkers: Some(WALKERS),
            estimators,
            ..EvalOptions::default()
        };
        let found = log_z(model, Some(subject.audit), flow, &options).expect("estimates");
        assert!(found.failures.is_empty(), "{:?}", found.failures);
        for estimate in &found.estimates {
            assert!(!estimate.doubtful && !estimate.withheld, "{estimate:?}");
            let half = t95(estimate.repeats - 1) * estimate.standard_error;
            let method = estimate.method;
            self.see(
                [family, method, "log Z"],
                Claim::Exactly,
                [estimate.value - half, estimate.value + half],
                subject.log_z,
            );
        }
        let mut of_smc = None;
        for &repeats in plan.smc {
            let options = EvalOptions { repeats, ..options.clone() }.smc(model.dim());
            let found = tempered(model, options).expect("an estimate");
            let method = format!("smc, {repeats} repeats");
            self.see(
                [family, &method, "log Z"],
                Claim::Exactly,
                interval(found.log_z, repeats),
                subject.log_z,
            );
            of_smc.get_or_insert(found.ensembles);
        }
        if let (true, Some(smc)) = (plan.all, of_smc) {
            let mut audit = subject.audit.clone();
            audit.walkers = audit.walkers.reweight(model);
            self.judge_masses(subject, modes, [(&audit, "audit"), (&smc, "smc")]);
            self.judge_two_sides(subject, &smc);
            if subject.is_resampled_often {
                let name = [family, "audit, walkers as if independent", "log Z"];
                self.see(name, Claim::Broken, interval(broken_log_z(&audit), 1_000), subject.log_z);
            }
        }
    }

    fn judge_masses(
        &mut self,
        subject: &Subject<'_>,
        modes: &Modes,
        ensembles: [(&Ensembles, &'static str); 2],
    ) {
        for (ensembles, method) in ensembles {
            let masses = by_ensembles(ensembles, modes, method);
            let standard_error = masses.standard_error.expect("an estimate")[0];
            let estimate = Estimate { value: masses.value[0], standard_error };
            let name = [subject.family, method, "mass"];
            self.see(name, Claim::Exactly, interval(estimate, REPEATS), subject.mass);
        }
        let found = by_importance(subject.model, subject.truth, modes, subject.seed);
        assert!(!found.withheld, "{found:?}");
        let standard_error = found.masses.standard_error.expect("an estimate")[0];
        let estimate = Estimate { value: found.masses.value[0], standard_error };
        let name = [subject.family, "importance from the law", "mass"];
        self.see(name, Claim::Exactly, interval(estimate, MASS_REPEATS), subject.mass);
    }

    /// AIS gives two sides, one below and one above log Z on average, each with a standard error; with them it is between the two.
    fn judge_two_sides(&mut self, subject: &Subject<'_>, walkers: &Ensembles) {
        let options =
            AisOptions { temperatures: Some(16), chains: 64, seed: subject.seed, ..AisOptions::default() };
        let sides = of_model(subject.model, Some(walkers), options).expect("both sides");
        let [low, _] = interval(sides.lower, sides.chains);
        let [_, high] = interval(sides.upper, sides.repeats.unwrap_or(sides.chains));
        let name = format!("ais, {}", sides.kind);
        let of = |quantity| [subject.family, &*name, quantity];
        self.see(of("log Z between the sides"), Claim::AtLeast, [low, high], subject.log_z);
        self.see(of("lower side"), Claim::Below, [sides.lower.value; 2], subject.log_z);
        self.see(of("upper side"), Claim::Above, [sides.upper.value; 2], subject.log_z);
    }
}

/// The 95 % interval of an estimate from independent repeats.
fn interval(estimate: Estimate, repeats: usize) -> [f64; 2] {
    let half = t95(repeats - 1) * estimate.standard_error;
    [estimate.value - half, estimate.value + half]
}

/// Every interval of both families, over a run for each seed.
///
/// # Panics
/// If a run fails.
pub fn coverage(seeds: Range<u64>, plan: Plan) -> Coverage {
    let (mixture, tilted) = (mixture::Mixture::new(), tilted::Tilted::new());
    let mut found = Coverage::default();
    for seed in seeds {
        mixture.run(seed).judge(&mixture, plan, &mut found);
        tilted.run(seed, plan, &mut found);
    }
    found
}

/// log Z with a standard error that takes resampled walkers for independent, the mistake that repeats are there to avoid: that of the weights as
/// they are, whatever was banked before.
fn broken_log_z(ensembles: &Ensembles) -> Estimate {
    let values = download(ensembles.walkers.log_weights.value());
    let repeats = ensembles.log_z.len();
    let per_repeat = values.len() / repeats;
    // Var(e^A)/(M mean²) = (1/ess_fraction − 1)/M, and over R repeats √(Σ s²)/R
    let square = |repeat: &[f32]| {
        let log_weights: Vec<f64> = repeat.iter().copied().map(f64::from).collect();
        (ess_fraction(&log_weights).recip() - 1.0) / per_repeat as f64
    };
    let squares: f64 = values.chunks_exact(per_repeat).map(square).sum();
    Estimate { standard_error: squares.sqrt() / repeats as f64, ..ensembles.log_z() }
}
