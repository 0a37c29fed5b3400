//! log Z by a flow q that can be drawn and whose density is known: importance and bridge sampling.
//!
//! Both rest on `log l(x) = −U(x) − log q(x)`, the log-ratio of the unnormalised model to the flow. Energies are downloaded once and
//! all sums are in f64 on the host. q is fixed: a flow fitted to walkers that are judged here with it is not independent of them.

use burn::tensor::Tensor;
use ember_model::energy::blockwise::{Blockwise, rows_at_a_time};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::shape::Support;
use ember_model::{Energy, EnergyModel};

use crate::FlowProposal;
use crate::error::Error;
use crate::statistics::Estimate;

/// First lane of importance sampling's draws.
pub(super) const IMPORTANCE_LANE: u32 = 1 << 21;
/// First lane of bridge sampling's draws.
pub(super) const BRIDGE_LANE: u32 = 1 << 22;

/// Sizes of an estimate by a flow.
#[derive(Clone, Copy, Debug)]
pub struct FlowOptions {
    /// Independent repeats R ≥ 2 of importance sampling; bridge sampling has those of its ensembles.
    pub repeats: usize,
    /// Draws of the flow in each repeat.
    pub draws: usize,
    /// Seed of all draws.
    pub seed: u64,
}

impl FlowOptions {
    /// Sizes for samples of `dim` coordinates: fewer draws of images, whose energies cost a network each.
    pub fn for_dim(dim: usize, repeats: usize, seed: u64) -> Self {
        Self { repeats, draws: if dim > 256 { 512 } else { 4_096 }, seed }
    }
}

/// log Z by a flow.
#[derive(Clone, Debug)]
pub struct FlowEstimate {
    /// The estimate, with its standard error over the repeats.
    pub log_z: Estimate,
    /// Each repeat's log Z, `[R]`.
    pub repeats: Vec<f64>,
    /// How near flow and model are, in (0, 1]: of importance sampling the ess fraction of `ρ/q` under q, of bridge sampling the
    /// overlap.
    pub nearness: f64,
    /// Pareto k̂ of importance sampling's weights.
    pub pareto_k: Option<f64>,
    /// Whether k̂ is above its limit, .7: the value may stand beside others, and is never the model's.
    pub withheld: bool,
    /// Whether that is too little for the standard error to be trusted.
    pub doubtful: bool,
    /// What the figure does not tell.
    pub caveat: &'static str,
}

/// `log l` at `count` draws of the flow, `[count]`; −∞ outside the model's support.
pub(super) fn log_ratios_at_draws(
    model: &EnergyModel,
    flow: &FlowProposal,
    count: usize,
    stream: Stream,
) -> Result<Vec<f64>, Error> {
    assert_eq!(model.dim(), flow.dim(), "the flow has the energy's dimension");
    let rows = rows_at_a_time(model.dim());
    let mut found = Vec::with_capacity(count);
    for (block, first) in (0..count).step_by(rows).enumerate() {
        let (x, log_q) = flow.sample(rows.min(count - first), stream.at(block as u64)?);
        let outside = outside(model, x.clone());
        let log_l = log_ratios(download(model.energy(x)), download(log_q));
        found.extend(
            log_l.zip(outside).map(|(log_l, outside)| if outside { f64::NEG_INFINITY } else { log_l }),
        );
    }
    checked(found, "draws of the flow")
}

/// `log l` at positions `x: [n, dim]` of known energy `[n]`.
pub(super) fn log_ratios_at(flow: &FlowProposal, x: Tensor<2>, energy: Tensor<1>) -> Result<Vec<f64>, Error> {
    let log_q = Blockwise(flow.model()).energy(x).neg();
    checked(log_ratios(download(energy), download(log_q)).collect(), "samples of the model")
}

/// `log l = −U − log q`, in f64.
fn log_ratios(energy: Vec<f32>, log_q: Vec<f32>) -> impl Iterator<Item = f64> {
    energy.into_iter().zip(log_q).map(|(u, log_q)| -f64::from(u) - f64::from(log_q))
}

/// Which rows lie outside the model's support.
fn outside(model: &EnergyModel, x: Tensor<2>) -> Vec<bool> {
    let [n, _] = x.dims();
    match model.spec().support {
        Support::Unbounded => vec![false; n],
        Support::Cube => download(x.abs().max_dim(1)).into_iter().map(|widest| widest > 1.0).collect(),
    }
}

/// An infinite energy is a weight of 0; a NaN, or an infinite weight, is no weight at all.
fn checked(log_l: Vec<f64>, of: &str) -> Result<Vec<f64>, Error> {
    let lost = log_l.iter().filter(|log_l| log_l.is_nan() || **log_l == f64::INFINITY).count();
    if lost > 0 {
        let all = log_l.len();
        return Err(Error::not_finite(format!(
            "the log-ratio of model to flow is not finite at {lost} of {all} {of}: log Z cannot be estimated by this flow"
        )));
    }
    Ok(log_l)
}

/// The draws of one repeat.
pub(super) fn stream(seed: u64, lane: u32, repeat: usize) -> Stream {
    Stream::new(seed, Purpose::Anneal).lane(lane + repeat as u32)
}
