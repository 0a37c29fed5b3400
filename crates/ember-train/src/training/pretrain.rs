//! Fitting a flow by maximum likelihood before a run: `[pretrain]`.
//!
//! Adam on `−mean log ρ(x)` with a cosine schedule to 0, the flow's own layers set from the first batch. A pure function of the
//! rows and of the starting θ. What it leaves is in the run's checkpoints; a run that is stopped before the first of them fits again.

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_model::params::download;
use ember_sampler::reduce;

use crate::config::{Adam, OptimizerConfig, PretrainConfig, Schedule};
use crate::error::Error;
use crate::logging::Milestones;
use crate::training::optimizer::Optimizer;

/// Updates between two looks at the loss.
const LOOK: u64 = 100;
/// Gradients of a flow are cut to this norm: one batch with a far outlier must not undo the fit.
const CLIP_NORM: f64 = 10.0;

/// The optimiser of a flow that is fitted, at a constant rate or along a schedule.
pub(crate) fn optimizer(flow: &EnergyModel, learning_rate: f64, schedule: Option<Schedule>) -> Optimizer {
    let adam = Adam { clip_norm: Some(CLIP_NORM), schedule, ..Adam::new(learning_rate) };
    Optimizer::new(&OptimizerConfig::Adam(adam), flow.params())
}

/// One step of `optimizer` towards the rows `x: [n, dim]` with these weights `[n]`, which sum to 1, and the loss before it, `[1]`.
pub(crate) fn step(
    flow: &EnergyModel,
    optimizer: &mut Optimizer,
    update: u64,
    x: Tensor<2>,
    weights: Tensor<1>,
) -> (EnergyModel, Tensor<1>) {
    let found = flow.weighted_param_grads(&[(x, weights.clone())]);
    let loss = reduce::sum(found.energies[0].clone() * weights);
    (optimizer.step_model(update, flow, found.grads).0, loss)
}

/// `flow` fitted to the batches `[n, dim]` that `rows` gives for each update. `what` names it to the user.
///
/// # Errors
/// A loss that is not finite: names the update and, where it can be told, the layer.
pub fn fit(
    mut flow: EnergyModel,
    config: &PretrainConfig,
    what: &'static str,
    mut rows: impl FnMut(u64) -> Result<Tensor<2>, Error>,
) -> Result<EnergyModel, Error> {
    let schedule = Schedule::Cosine { end: 0.0, horizon: config.steps };
    let mut optimizer = optimizer(&flow, config.learning_rate, Some(schedule));
    if flow.has_data_init() {
        flow = flow.with_data_init(rows(0)?);
    }
    let mut milestones = Milestones::new(what);
    for update in 0..config.steps {
        let x = rows(update)?;
        let [n, _] = x.dims();
        let weights = Tensor::full([n], 1.0 / n as f64, flow.device());
        let (next, loss) = step(&flow, &mut optimizer, update, x.clone(), weights);
        let done = update + 1;
        if done.is_multiple_of(LOOK) || done == config.steps {
            let value = download(loss)[0];
            if !value.is_finite() {
                let place =
                    flow.first_non_finite_layer(x).map(|found| format!(", first in `{}`", found.name));
                return Err(Error::failed(format!(
                    "{what}: −mean log ρ is {value} at update {update}{}: a smaller pretrain.learning_rate may help",
                    place.unwrap_or_default()
                )));
            }
            milestones.reach(done as f64 / config.steps as f64, || {
                format!("update {done} of {}, −mean log ρ = {value:.4}", config.steps)
            });
        }
        flow = next;
    }
    Ok(flow)
}
