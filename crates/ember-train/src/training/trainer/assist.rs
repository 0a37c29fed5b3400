//! The flows that propose global moves in a flow-assisted run, and how they follow the walkers (ALGORITHMS 5).

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::{FlowProposal, Proposals, Walkers, reduce};

use crate::config::Config;
use crate::dataset::Data;
use crate::error::Error;
use crate::training::objective::{Assisted, Fit};
use crate::training::optimizer::Optimizer;
use crate::{training::pretrain, training::start};

/// First lane of [`Purpose::Batch`] for the rows a proposal flow is fitted to.
const FIT_LANE: u32 = 1 << 21;
/// Lane of [`Purpose::Start`] for the draws a proposal flow is fitted to before the run.
const PRETRAIN_LANE: u32 = 1 << 19;
/// Weight of the newest update in the running mean of the global acceptance.
const NEWEST: f64 = 0.02;
/// While the flow is not used, every this many updates it is tried.
const TRY_EVERY: u64 = 50;

/// The proposal flows with what moves them.
pub struct Assist {
    /// One flow; with `fit = "cross"` two, each moving its half of the walkers and fitted to the other half.
    pub flows: Vec<EnergyModel>,
    /// Adam, one for each flow.
    pub optimizers: Vec<Optimizer>,
    /// Running mean of the fraction of walkers that the global moves move.
    pub accept_rate: f64,
    /// Whether the flow has collapsed, and local moves go on alone.
    pub collapsed: bool,
}

/// What happened to the flow in an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The global acceptance, given here, fell below the floor: local moves go on alone.
    Collapsed(f64),
    /// It is above the floor again.
    Recovered(f64),
}

impl Assist {
    /// The flows before the first update: copies of the energy's own flow, or fitted to it.
    ///
    /// A proposal is fitted to the data, but that of an energy that does not start near to them to the starting model's draws.
    ///
    /// # Errors
    /// As [`pretrain::fit`].
    pub(super) fn new(
        assisted: Assisted<'_>,
        config: &Config,
        model: &EnergyModel,
        data: &Data,
        device: &Device,
    ) -> Result<Self, Error> {
        let flow = match assisted.proposal {
            None => model.flow_part().ok_or_else(|| {
                Error::usage(
                    "objective \"flow_assisted\": this energy has no flow to copy; give objective.proposal",
                )
            })?,
            Some(table) => {
                let spec = EnergySpec::new(model.spec().shape, table.clone());
                let flow = EnergyModel::init(spec, config.seed, device)?;
                let pretrain = config.pretraining();
                let what = "fitting the proposal flow";
                if model.flow_part().is_some() {
                    // The energy starts at its flow, which is near to the data.
                    let mut batches = start::pretrain_batches(config, data, device)?;
                    pretrain::fit(flow, &pretrain, what, |update| batches.batch(update))?
                } else {
                    let stream = Stream::new(config.seed, Purpose::Start).lane(PRETRAIN_LANE);
                    let count = pretrain.batch_size;
                    pretrain::fit(flow, &pretrain, what, |update| {
                        let draws = model.draw(count, stream.at(update)?).ok_or_else(|| {
                            Error::usage("objective.proposal: the starting model cannot be drawn, so no flow can be fitted to it")
                        })?;
                        Ok(Tensor::from_data(TensorData::new(draws, [count, model.dim()]), device))
                    })?
                }
            }
        };
        Ok(Self::of(assisted, flow))
    }

    /// As many copies of a flow as the objective has.
    fn of(assisted: Assisted<'_>, flow: EnergyModel) -> Self {
        let count = if assisted.fit == Fit::Cross { 2 } else { 1 };
        Self::assemble(assisted, vec![flow; count])
    }

    /// These flows with fresh optimisers.
    pub(crate) fn assemble(assisted: Assisted<'_>, flows: Vec<EnergyModel>) -> Self {
        let optimizer = |flow| pretrain::optimizer(flow, assisted.learning_rate, None);
        Self { optimizers: flows.iter().map(optimizer).collect(), flows, accept_rate: 1.0, collapsed: false }
    }

    /// The flows as proposals.
    pub fn proposals(&self) -> Proposals {
        let proposal = |flow| FlowProposal::of(flow).expect("a proposal flow is a flow");
        Proposals::blocks(self.flows.iter().map(proposal).collect())
    }

    /// Whether update `update` makes global moves: always, but of a collapsed flow only as a try.
    pub(super) fn proposes(&self, update: u64) -> bool {
        !self.collapsed || update.is_multiple_of(TRY_EVERY)
    }

    /// Takes note of the fraction of walkers that the global moves of an update moved.
    pub(super) fn follow(&mut self, rate: f64, floor: f64) -> Option<Change> {
        // A NaN is no acceptance either.
        let rate = if rate.is_finite() { rate } else { 0.0 };
        if self.collapsed {
            if rate < floor {
                return None;
            }
            (self.collapsed, self.accept_rate) = (false, rate);
            return Some(Change::Recovered(rate));
        }
        self.accept_rate += NEWEST * (rate - self.accept_rate);
        if self.accept_rate >= floor {
            return None;
        }
        self.collapsed = true;
        Some(Change::Collapsed(self.accept_rate))
    }

    /// One step of every flow towards its walkers, which count `weights` `[walkers]`.
    ///
    /// # Errors
    /// An update number beyond 32 bits.
    pub(super) fn fit(
        &mut self,
        assisted: Assisted<'_>,
        walkers: &Walkers,
        weights: &Tensor<1>,
        seed: u64,
        update: u64,
    ) -> Result<(), Error> {
        if assisted.fit == Fit::Frozen {
            return Ok(());
        }
        let count = walkers.count();
        let proposals = self.proposals();
        let flows = self.flows.len();
        for (k, (flow, optimizer)) in self.flows.iter_mut().zip(&mut self.optimizers).enumerate() {
            // One flow: all walkers. Two: the half that the other one moves.
            let rows = proposals.rows((k + 1) % flows, count);
            let n = assisted.batch_size.min(rows.len());
            let stream = Stream::new(seed, Purpose::Batch).lane(FIT_LANE + k as u32).at(update)?;
            let pick = |i: u32| (rows.start as f64 + stream.uniform_f64(i) * rows.len() as f64) as i32;
            let picked: Vec<i32> = match n == rows.len() {
                true => rows.clone().map(|row| row as i32).collect(),
                false => (0..n as u32).map(pick).collect(),
            };
            let picked = Tensor::from_data(TensorData::new(picked, [n]), flow.device());
            let x = walkers.position.clone().select(0, picked.clone());
            let w = weights.clone().select(0, picked);
            let w = w.clone() / reduce::sum(w);
            *flow = pretrain::step(flow, optimizer, update, x, w).0;
        }
        Ok(())
    }
}
