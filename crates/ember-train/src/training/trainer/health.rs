//! What ends an update: numbers that are not finite, and an energy gap that explodes. What ends a run is in `ending.rs`.

use burn::tensor::Tensor;
use ember_model::flow::{NonFinite, Quantity};
use ember_model::params::download;
use ember_sampler::{Walkers, reduce};

use super::fitted::Fitted;
use super::{Trainer, UpdateInfo};
use crate::error::Error;

/// Terms of a gradient: samples `[batch, dim]` and their weights `[batch]`.
type Terms = [(Tensor<2>, Tensor<1>)];

/// What helps where energies explode.
pub(super) const DATA_ADVICE: &str = "Bring the data to a range near 1 (divide them by their standard deviation), give images noise \
     (dataset.noise > 0), or take a smaller kernel.step_size or optimizer.learning_rate";

impl Trainer {
    /// Ends an update whose data's energy or gradient is not finite, of a flow naming the layer (a step later every layer would be at
    /// fault), and with a watchdog one whose energy gap explodes. One small read; none on a GPU, which looks by itself
    /// (`on_device.rs`).
    pub(super) fn watch(&self, info: &UpdateInfo, terms: &Terms) -> Result<(), Error> {
        let (max_gap, is_flow) = (self.max_gap(), self.model.flow().is_some());
        if self.is_on_gpu() {
            return Ok(());
        }
        let Some(energy_data) = info.energy_data.clone() else { return Ok(()) };
        let mut read = vec![energy_data, info.grad_norm.clone()];
        read.extend(info.energy_walkers.clone());
        let values = download(Tensor::cat(read, 0));
        let (energy, norm) = (values[0], values[1]);
        if is_flow && !(energy.is_finite() && norm.is_finite()) {
            return Err(self.flow_non_finite(terms));
        }
        // Without walkers in this update there is no gap.
        let gap = values.get(2).map_or(0.0, |walkers| energy - walkers);
        match max_gap {
            Some(most) if !norm.is_finite() || f64::from(gap).is_nan() || f64::from(gap).abs() > most => {
                Err(self.gap_error(gap, most, norm))
            }
            _ if !(energy.is_finite() && norm.is_finite()) => {
                Err(self.data_not_finite(energy.into(), Some(norm.into())))
            }
            _ => Ok(()),
        }
    }

    /// The error of a batch whose mean energy, or the gradient it gives, is beyond what f32 holds.
    pub fn data_not_finite(&self, energy: f64, norm: Option<f64>) -> Error {
        let largest = self.data.train.largest();
        let norm = norm.map(|norm| format!(", the gradient norm {norm:.3e}")).unwrap_or_default();
        let message = format!(
            "the mean energy of the data is {energy:.3e}{norm}, beyond what f32 holds; the largest coordinate of the training set is \
             {largest:.3e} in size. {DATA_ADVICE}"
        );
        Error::Diverged { step: self.step, message }
    }

    /// The error of an energy gap that explodes.
    pub(super) fn gap_error(&self, gap: f32, most: f64, norm: f32) -> Error {
        let message = format!(
            "the energy gap is {gap:.3e} nats (watchdog.max_energy_gap allows {most:.3e}), the gradient norm {norm:.3e}; \
             a smaller learning rate or step size may help"
        );
        Error::Diverged { step: self.step, message }
    }

    /// Names the layer where the data's energy first fails; where it does not, the parameter whose gradient does.
    pub(super) fn flow_non_finite(&self, terms: &Terms) -> Error {
        let what = match self.model.first_non_finite_layer(terms[0].0.clone()) {
            Some(layer) => format!("energy of the data (first {})", place(&layer)),
            None => {
                let sums = self.model.weighted_param_grads(terms).grads;
                let name = self.first_non_finite(sums.into_iter().map(|grad| grad.mul_scalar(0.0)));
                format!("gradient of {}", name.map_or("the parameters".into(), |name| format!("`{name}`")))
            }
        };
        Error::NonFinite { step: self.step, what, walkers: Vec::new(), count: 0 }
    }

    /// The name of the first parameter whose tensor here has a sum that is not finite.
    fn first_non_finite(&self, tensors: impl Iterator<Item = Tensor<1>>) -> Option<String> {
        let sums = download(Tensor::cat(tensors.map(reduce::sum).collect(), 0));
        let place = sums.iter().position(|sum| !sum.is_finite())?;
        Some(self.model.params()[place].name.clone())
    }

    /// Reads and checks the health of the walkers, as `update` does at log steps: call before a checkpoint.
    ///
    /// # Errors
    /// As [`Trainer::update`].
    pub fn check(&mut self) -> Result<(), Error> {
        self.hear()?;
        if !self.walkers.summary().finite {
            return Err(self.non_finite(&self.walkers));
        }
        let own = self.own.as_ref().map(|own| download(own.values.clone())).unwrap_or_default();
        let beside = [
            (
                own.iter().all(|value| value.is_finite()),
                "a number that the objective trains beside the energy",
            ),
            (self.fitted.as_ref().is_none_or(Fitted::is_finite), "a parameter of the flow of the noise"),
        ];
        if let Some((_, what)) = beside.into_iter().find(|(finite, _)| !finite) {
            let what = what.to_owned();
            return Err(Error::NonFinite { step: self.step, what, walkers: Vec::new(), count: 0 });
        }
        match self.first_non_finite(self.model.theta().iter().cloned()) {
            Some(name) => Err(Error::NonFinite {
                step: self.step,
                what: format!("parameter `{name}`"),
                walkers: Vec::new(),
                count: 0,
            }),
            None => Ok(()),
        }
    }

    /// The error of walkers that are not finite; of a flow with the layer.
    pub(super) fn non_finite(&self, population: &Walkers) -> Error {
        let mut walkers = population.non_finite();
        let count = walkers.len();
        walkers.truncate(8);
        let layer = self.model.first_non_finite_layer(population.position.clone());
        let layer = layer.map(|layer| format!(" (first {})", place(&layer))).unwrap_or_default();
        let what = format!("energy, gradient or log-weight{layer} of walkers");
        Error::NonFinite { step: self.step, what, walkers, count }
    }
}

/// A place in a flow, in words.
fn place(found: &NonFinite) -> String {
    let quantity = match found.quantity {
        Quantity::Position => "coordinates",
        Quantity::LogDet => "log-determinant",
    };
    match found.layer {
        Some(layer) => format!("the {quantity} of layer {layer}, `{}`", found.name),
        None => format!("the {quantity} at the {}", found.name),
    }
}
