//! Simulation-based calibration of the kernels (Talts, Betancourt, Simpson, Vehtari, Gelman 2018, arXiv 1804.06788).
//!
//! θ is drawn from its prior `N(0, I)` and `y = Bθ + ε`, `ε ~ N(0, I)`. Draws from the posterior of θ given y, which a kernel samples, are then
//! exchangeable with θ itself, so the rank of θ among L of them is uniform on `0 … L`: of every coordinate and of the posterior energy, over
//! many θ. By χ² in nine bins.
//!
//! | protocol | kernels | draws |
//! |---|---|---|
//! | [`Protocol::Chains`] | those that leave a law invariant | the ends of L chains, one each, from a moved and wider start |
//! | [`Protocol::Path`] | all | L by weight of 500 walkers that followed energies from that start to the posterior, with weights and resampling |
//!
//! Walkers of a path are dependent by order 1/500, which ranks of a few thousand runs do not see. Not seen either: draws of the prior
//! instead of the posterior, whose ranks are uniform as well, and what is wrong about several modes.

use std::fmt;
use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use ember_model::Energy;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_sampler::kernel::Ula;
use ember_sampler::{
    Boundary, Kernel, KernelConfig, Noise, Proposals, Scheme, StepInfo, Walkers, WeightRule,
};

use crate::cpu;
use crate::proposals::skewed_flow;

const DIM: usize = 2;
/// B.
const DESIGN: [[f64; DIM]; DIM] = [[1.0, 0.5], [-0.3, 1.2]];
/// L.
const DRAWS: usize = 53;
const BINS: usize = 9;
/// Steps of a chain.
const STEPS: u64 = 60;
/// Walkers that follow a path, and its energies.
const WALKERS: usize = 500;
const ENERGIES: u64 = 20;
/// Mean and standard deviation of the start, on every coordinate.
const START: (f64, f64) = (1.0, 1.5);
/// Below this probability a χ² is not that of uniform ranks: one false alarm in a hundred runs of everything.
pub const LEVEL: f64 = 1e-4;

/// `½ (x − m)ᵀ P (x − m)`.
struct Quadratic {
    /// m, `[1, dim]`.
    mean: Tensor<2>,
    /// P, `[dim, dim]`.
    precision: Tensor<2>,
}

impl Quadratic {
    fn new(mean: [f64; DIM], precision: [[f64; DIM]; DIM]) -> Self {
        let tensor = |values: &[f64], rows: usize| {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::from_data(TensorData::new(values, [rows, DIM]), &cpu())
        };
        Self { mean: tensor(&mean, 1), precision: tensor(precision.as_flattened(), DIM) }
    }

    /// The law that walkers start from.
    fn start() -> Self {
        let precision = START.1.powi(-2);
        Self::new([START.0; DIM], [[precision, 0.0], [0.0, precision]])
    }

    /// The posterior of θ given y with `ε ~ N(0, noise² I)`: `P = I + BᵀB/noise²`, `P m = Bᵀy/noise²`.
    fn posterior(y: [f64; DIM], noise: f64) -> Self {
        let (mut p, mut b) = ([[1.0, 0.0], [0.0, 1.0]], [0.0; DIM]);
        for (row, y) in DESIGN.iter().zip(y) {
            for i in 0..DIM {
                b[i] += row[i] * y / (noise * noise);
                for j in 0..DIM {
                    p[i][j] += row[i] * row[j] / (noise * noise);
                }
            }
        }
        let det = p[0][0] * p[1][1] - p[0][1] * p[1][0];
        let mean = [(p[1][1] * b[0] - p[0][1] * b[1]) / det, (p[0][0] * b[1] - p[1][0] * b[0]) / det];
        Self::new(mean, p)
    }
}

impl Energy for Quadratic {
    fn dim(&self) -> usize {
        DIM
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        self.energy_and_grad(x).0
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let gap = x - self.mean.clone();
        let grad = gap.clone().matmul(self.precision.clone());
        ((gap * grad.clone()).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5), grad)
    }
}

/// `(1 − t) U_0 + t U_1`.
struct Between<'a>(f64, [&'a Quadratic; 2]);

impl Energy for Between<'_> {
    fn dim(&self) -> usize {
        DIM
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        self.energy_and_grad(x).0
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (u0, grad0) = self.1[0].energy_and_grad(x.clone());
        let (u1, grad1) = self.1[1].energy_and_grad(x);
        let mix = (1.0 - self.0, self.0);
        (u0 * mix.0 + u1 * mix.1, grad0 * mix.0 + grad1 * mix.1)
    }
}

/// How draws are had from a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Ends of unweighted chains.
    Chains,
    /// Weighted walkers along a path of energies.
    Path,
}

impl Protocol {
    /// Those that apply to a kernel.
    pub fn of(kernel: &dyn Kernel) -> &'static [Self] {
        match kernel.weight_rule() {
            WeightRule::Invariant => &[Self::Chains, Self::Path],
            WeightRule::TransitionDensity => &[Self::Path],
        }
    }

    /// L draws of a law, `[L][dim]`, that the kernel's numbers of this seed give.
    fn draws(self, kernel: &dyn Kernel, law: &Quadratic, seed: u64) -> Vec<Vec<f64>> {
        let start = Quadratic::start();
        let count = if self == Self::Chains { DRAWS } else { WALKERS };
        let normals = Stream::new(seed, Purpose::Start).normals(count, DIM);
        let rows = normals.into_iter().map(|z| (START.0 + START.1 * f64::from(z)) as f32).collect();
        let x = Tensor::from_data(TensorData::new::<f32, _>(rows, [count, DIM]), &cpu());
        let numbers = kernel.noise_steps();
        let noise = |step: u64| Noise { seed, lane: 0, step: step * numbers };
        let mut walkers = Walkers::new(&start, x, 0.0);
        let of = |rows: &[f32], row: usize| {
            rows[row * DIM..(row + 1) * DIM].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>()
        };
        if self == Self::Chains {
            let (walkers, _) = kernel.steps(law, law, walkers.refresh(law), STEPS, &noise);
            let rows = download(walkers.position);
            return (0..DRAWS).map(|row| of(&rows, row)).collect();
        }
        for step in 0..ENERGIES {
            let energy = Between((step + 1) as f64 / ENERGIES as f64, [&start, law]);
            walkers = kernel.step(&energy, kernel.prepare(&energy, walkers), &noise(step)).0;
            let stream = Stream::new(seed, Purpose::Resampling).at(step).expect("a small step");
            walkers = walkers.settled(Scheme::Systematic, 0.5, stream).0;
        }
        let weights: Vec<f64> = download(walkers.weights()).into_iter().map(f64::from).collect();
        let rows = download(walkers.position);
        let picked = Stream::new(seed, Purpose::Sample).categorical(DRAWS, &weights);
        picked.into_iter().map(|row| of(&rows, row as usize)).collect()
    }
}

/// The ranks of one quantity.
#[derive(Clone, Debug)]
pub struct Ranks {
    /// Kernel, protocol and quantity.
    pub name: String,
    bins: [usize; BINS],
}

impl Ranks {
    /// `Σ (n_b − n/B)²/(n/B)`: χ² with eight degrees of freedom where ranks are uniform.
    pub fn chi_square(&self) -> f64 {
        let expected = self.bins.iter().sum::<usize>() as f64 / BINS as f64;
        self.bins.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum()
    }

    /// The probability of a χ² as large: `e^{−x/2} Σ_{i < 4} (x/2)^i/i!`.
    pub fn probability(&self) -> f64 {
        let half = 0.5 * self.chi_square();
        let terms = (1..BINS / 2).scan(1.0, |term, i| {
            *term *= half / i as f64;
            Some(*term)
        });
        (-half).exp() * (1.0 + terms.sum::<f64>())
    }

    /// Whether the ranks may be uniform.
    pub fn is_uniform(&self) -> bool {
        self.probability() >= LEVEL
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bins } = self;
        write!(f, "{name}: p = {:.1e}, χ² = {:.1}, ranks {bins:?}", self.probability(), self.chi_square())
    }
}

/// The ranks of θ's coordinates and of its posterior energy, over a θ for each seed. `noise` is the standard deviation of ε that the
/// posterior supposes: 1 where it is right.
///
/// # Panics
/// If a kernel proposes from a flow and has none.
pub fn ranks(
    name: &str,
    kernel: &dyn Kernel,
    protocol: Protocol,
    noise: f64,
    seeds: Range<u64>,
) -> Vec<Ranks> {
    let quantities = ["θ₀", "θ₁", "energy"];
    let mut found = quantities
        .map(|quantity| Ranks { name: format!("{name}, {protocol:?}, {quantity}"), bins: [0; BINS] });
    for seed in seeds {
        let normals = Stream::new(seed, Purpose::Data).normals(1, 2 * DIM);
        let z: Vec<f64> = normals.into_iter().map(f64::from).collect();
        let theta = [z[0], z[1]];
        let y: [f64; DIM] =
            std::array::from_fn(|i| DESIGN[i][0] * theta[0] + DESIGN[i][1] * theta[1] + z[DIM + i]);
        let law = Quadratic::posterior(y, noise);
        let mut rows = protocol.draws(kernel, &law, seed);
        rows.push(theta.to_vec());
        let flat: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
        let energy =
            download(law.energy(Tensor::from_data(TensorData::new(flat, [rows.len(), DIM]), &cpu())));
        for (quantity, ranks) in found.iter_mut().enumerate() {
            let of = |row: usize| if quantity < DIM { rows[row][quantity] } else { f64::from(energy[row]) };
            let rank = (0..DRAWS).filter(|&row| of(row) < of(DRAWS)).count();
            ranks.bins[rank * BINS / (DRAWS + 1)] += 1;
        }
    }
    found.to_vec()
}

/// Every kernel of the registry that moves points of ℝ^d, bound to a flow where it proposes from one, at numbers of its own keys.
///
/// # Panics
/// If a kernel needs a key whose number is not known here.
pub fn kernels() -> Vec<(&'static str, Box<dyn Kernel>)> {
    let flow = Proposals::one(skewed_flow(DIM, &cpu()));
    let kernel = |&kind: &&'static str| {
        let config = config(kind);
        let bound = config.as_dyn().with_proposals(&flow);
        (kind, bound.unwrap_or_else(|| config.as_dyn().with_step_size(0.15)))
    };
    KernelConfig::KINDS.iter().map(kernel).filter(|(_, kernel)| !kernel.moves_bits()).collect()
}

/// The table of a kind with the keys that it asks for.
fn config(kind: &str) -> KernelConfig {
    const KEYS: [(&str, &str); 4] =
        [("step_size", "0.15"), ("leapfrog_steps", "5"), ("proposals", "8"), ("local_steps", "2")];
    let mut text = format!("kind = \"{kind}\"\n");
    loop {
        let error = match toml::from_str::<KernelConfig>(&text) {
            Ok(config) => return config,
            Err(error) => error.message().to_owned(),
        };
        let missing = |key: &str| error == format!("missing field `{key}`");
        let key = KEYS.iter().find(|(key, _)| missing(key));
        let (key, value) = key.unwrap_or_else(|| panic!("{kind}: {error}: give it a number here"));
        text += &format!("{key} = {value}\n");
    }
}

/// Every kernel by every protocol that applies to it.
///
/// # Panics
/// As [`ranks`].
pub fn calibration(seeds: Range<u64>) -> Vec<Ranks> {
    let mut found = Vec::new();
    for (kind, kernel) in kernels() {
        for protocol in Protocol::of(&*kernel) {
            found.extend(ranks(kind, &*kernel, *protocol, 1.0, seeds.clone()));
        }
    }
    found
}

/// MALA that takes every proposal, which is ULA that says of itself that it leaves the law invariant.
#[derive(Clone, Debug)]
pub struct EveryProposalTaken {
    /// h.
    pub step_size: f64,
}

impl Kernel for EveryProposalTaken {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let log_weights = walkers.log_weights.clone();
        let (walkers, info) = Ula::new(self.step_size).step(energy, walkers, noise);
        (Walkers { log_weights, ..walkers }, info)
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { step_size })
    }

    fn step_size(&self) -> Option<f64> {
        Some(self.step_size)
    }

    fn drift_clip(&self) -> Option<f64> {
        None
    }

    fn boundary(&self) -> Boundary {
        Boundary::None
    }
}
