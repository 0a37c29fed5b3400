//! The exchange of two neighbouring rungs, and who has been where.

use burn::tensor::{Bool, Tensor, TensorData};
use ember_model::Energy;
use ember_model::params::download;

use crate::Walkers;
use crate::error::Error;
use crate::kernel::replaced;

/// What an exchange found.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// `U_i(x_i) − U_{i+1}(x_i)`, before the exchange, `[ladders]`.
    pub forward: Vec<f64>,
    /// `U_{i+1}(x_{i+1}) − U_i(x_{i+1})`, before the exchange, `[ladders]`.
    pub reverse: Vec<f64>,
    /// Which ladders exchanged, `[ladders]`.
    pub accepted: Vec<bool>,
}

/// Exchanges the points of two neighbouring rungs in the ladders whose `coins`, uniform in (0, 1) and one a ladder, say so:
/// `log u < U_i(x_i) + U_{i+1}(x_{i+1}) − U_i(x_{i+1}) − U_{i+1}(x_i)`. The walkers are cached at their own rung's energy, and come back so.
/// Leaves the product of both laws invariant. One gradient of each energy; one read.
///
/// # Errors
/// An energy that is not a number. An infinite one of the other rung is a point that does not change places.
pub fn exchange(
    [lower, upper]: [&dyn Energy; 2],
    [low, high]: [Walkers; 2],
    coins: &[f64],
) -> Result<([Walkers; 2], Exchange), Error> {
    let ladders = low.count();
    let (u_low, grad_low) = lower.energy_and_grad(high.position.clone());
    let (u_high, grad_high) = upper.energy_and_grad(low.position.clone());
    let forward = low.energy.clone() - u_high.clone();
    let reverse = high.energy.clone() - u_low.clone();
    let both: Vec<f64> =
        download(Tensor::cat(vec![forward, reverse], 0)).into_iter().map(f64::from).collect();
    if both.iter().any(|difference| difference.is_nan()) {
        return Err(Error::not_finite(
            "parallel tempering: an energy is not finite where a chain of a neighbouring rung is",
        ));
    }
    let (forward, reverse) = both.split_at(ladders);
    let is_taken = |m: usize| coins[m].ln() < forward[m] + reverse[m];
    let accepted: Vec<bool> = (0..ladders).map(is_taken).collect();
    let device = low.position.device();
    let mask = Tensor::<1, Bool>::from_data(TensorData::new(accepted.clone(), [ladders]), &device);
    let (x_low, x_high) = (low.position.clone(), high.position.clone());
    let low = replaced(low, (x_high, u_low, grad_low), mask.clone());
    let high = replaced(high, (x_low, u_high, grad_high), mask);
    Ok(([low, high], Exchange { forward: forward.to_vec(), reverse: reverse.to_vec(), accepted }))
}

/// The end of the ladder that a point was at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Neither,
    Foot,
    Top,
}

/// Ways from the foot to the top and back.
#[derive(Clone, Debug)]
pub(super) struct Trips {
    /// Of the point at each rung of each ladder, `[rungs][ladders]`.
    last: Vec<Vec<Last>>,
    counts: Vec<usize>,
}

impl Trips {
    pub fn new(rungs: usize, ladders: usize) -> Self {
        let mut trips = Self { last: vec![vec![Last::Neither; ladders]; rungs], counts: vec![0; ladders] };
        trips.look(false);
        trips
    }

    /// Rungs `i` and `i + 1` have exchanged in these ladders.
    pub fn swap(&mut self, i: usize, accepted: &[bool]) {
        let (below, above) = self.last.split_at_mut(i + 1);
        for (m, _) in accepted.iter().enumerate().filter(|(_, accepted)| **accepted) {
            std::mem::swap(&mut below[i][m], &mut above[0][m]);
        }
    }

    /// Looks who is at the ends. A point that comes to the foot from the top has made a round trip; it counts if `counts`.
    pub fn look(&mut self, counts: bool) {
        let top = self.last.len() - 1;
        for m in 0..self.counts.len() {
            self.counts[m] += usize::from(counts && self.last[0][m] == Last::Top);
            self.last[0][m] = Last::Foot;
            if self.last[top][m] == Last::Foot {
                self.last[top][m] = Last::Top;
            }
        }
    }

    /// Round trips of each ladder.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A point carried up two rungs and down again has made one round trip; one that turns back half way has made none.
    #[test]
    fn round_trips_are_counted() {
        let mut trips = Trips::new(3, 2);
        for (pair, accepted) in [(0, [true, true]), (1, [true, false]), (1, [true, false]), (0, [true, true])]
        {
            trips.swap(pair, &accepted);
            trips.look(true);
        }
        assert_eq!(trips.counts(), [1, 0]);
    }
}
