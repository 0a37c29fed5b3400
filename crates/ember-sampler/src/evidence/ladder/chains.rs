//! The chains of all ladders, rung by rung, and a sweep of them.

use burn::tensor::{Device, Tensor};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};

use super::log_z::{Differences, LogRatios};
use super::swaps::{Trips, exchange};
use super::{COIN_LANE, Foot, LANE, LadderOptions, Rung, TARGET_ACCEPTANCE};
use crate::error::Error;
use crate::{Noise, StepInfo, Walkers};

/// M chains of each rung.
pub(super) struct Chains<'a> {
    pub rungs: &'a mut [Rung],
    /// `[ladders]` of each rung, cached at its energy.
    walkers: Vec<Walkers>,
    options: LadderOptions<'a>,
    device: Device,
    differences: Vec<Differences>,
    /// Exchanges made of each pair, all ladders together.
    pub swapped: Vec<usize>,
    /// Sweeps that counted in which a pair had its turn.
    pub attempts: Vec<usize>,
    pub trips: Trips,
    /// Sums of acceptances of each rung, `[1]`.
    accepted: Vec<Option<Tensor<1>>>,
    /// Sweeps behind those sums.
    counted: usize,
    /// Kernel steps of one chain, all together.
    pub kernel_steps: u64,
}

impl<'a> Chains<'a> {
    /// Every rung's chains begin where the rung below ended its first moves.
    pub fn new(
        rungs: &'a mut [Rung],
        foot: &Foot<'_>,
        device: &Device,
        options: LadderOptions<'a>,
    ) -> Result<Self, Error> {
        let n = rungs.len();
        let mut chains = Self {
            walkers: Vec::with_capacity(n),
            differences: vec![Differences::new(options.ladders); n - 1],
            swapped: vec![0; n - 1],
            attempts: vec![0; n - 1],
            trips: Trips::new(n, options.ladders),
            accepted: vec![None; n],
            counted: 0,
            kernel_steps: 0,
            device: device.clone(),
            rungs,
            options,
        };
        let mut position = chains.drawn(foot, 0);
        for i in 0..n {
            let start = Walkers::new(&*chains.rungs[i].energy, position, f64::NAN);
            let (walkers, info) = chains.moved(i, start, 0)?;
            chains.learn(i, &info, 0);
            position = walkers.position.clone();
            chains.walkers.push(walkers);
        }
        Ok(chains)
    }

    /// Exchanges of the even pairs of neighbours, or of the odd ones. `counts`: after the burn-in.
    pub fn swap(&mut self, sweep: u64, counts: bool) -> Result<(), Error> {
        let ladders = self.options.ladders;
        for i in ((sweep % 2) as usize..self.rungs.len() - 1).step_by(2) {
            let coins =
                Stream::new(self.options.seed, Purpose::Anneal).lane(COIN_LANE + i as u32).at(sweep)?;
            let coins: Vec<f64> = coins.open_uniforms(ladders, 1).into_iter().map(f64::from).collect();
            let (lower, upper) = (&*self.rungs[i].energy, &*self.rungs[i + 1].energy);
            let pair = [self.walkers[i].clone(), self.walkers[i + 1].clone()];
            let ([low, high], found) = exchange([lower, upper], pair, &coins)?;
            (self.walkers[i], self.walkers[i + 1]) = (low, high);
            self.trips.swap(i, &found.accepted);
            if counts {
                self.swapped[i] += found.accepted.iter().filter(|&&accepted| accepted).count();
                self.attempts[i] += 1;
                self.differences[i].push(&found);
            }
        }
        self.trips.look(counts);
        Ok(())
    }

    /// Moves of every rung; exact draws at the foot, where there are such.
    pub fn advance(&mut self, foot: &Foot<'_>, sweep: u64, counts: bool) -> Result<(), Error> {
        self.counted += usize::from(counts);
        for i in 0..self.rungs.len() {
            if i == 0 && matches!(foot, Foot::Exact { .. }) {
                let position = self.drawn(foot, sweep);
                self.walkers[0] = Walkers::new(&*self.rungs[0].energy, position, f64::NAN);
                continue;
            }
            let (walkers, info) = self.moved(i, self.walkers[i].clone(), sweep)?;
            self.walkers[i] = walkers;
            if !counts {
                self.learn(i, &info, sweep);
            } else if let Some(rate) = info.mean_accept_rate {
                self.accepted[i] = Some(match self.accepted[i].take() {
                    Some(sum) => sum + rate,
                    None => rate,
                });
            }
        }
        Ok(())
    }

    fn drawn(&self, foot: &Foot<'_>, sweep: u64) -> Tensor<2> {
        // The sweep is in the lane: a draw by rejection has the step for itself.
        let stream = Stream::new(self.options.seed, Purpose::Anneal).lane(LANE + sweep as u32);
        foot.points(self.options.ladders, self.rungs[0].energy.dim(), stream, &self.device)
    }

    /// K kernel steps of rung i.
    fn moved(&mut self, i: usize, walkers: Walkers, sweep: u64) -> Result<(Walkers, StepInfo), Error> {
        let Rung { energy, kernel } = &self.rungs[i];
        let (moves, numbers) = (self.options.moves as u64, kernel.noise_steps());
        let first = Noise::at(self.options.seed, LANE + i as u32, sweep, moves * numbers, 0)?;
        Noise::at(self.options.seed, LANE + i as u32, sweep, moves * numbers, moves * numbers)?;
        let noise = |sub_step: u64| Noise { step: first.step + sub_step * numbers, ..first };
        self.kernel_steps += moves * self.options.ladders as u64;
        Ok(kernel.steps(&**energy, &**energy, walkers, moves, &noise))
    }

    /// Leads the step size of rung i towards the acceptance aimed at: `log h += γ_t (a − a*)`, `γ_t = max(.1, 1/√t)`
    /// (Robbins and Monro 1951).
    fn learn(&mut self, i: usize, info: &StepInfo, sweep: u64) {
        let (Some(rate), Some(h)) = (&info.mean_accept_rate, self.rungs[i].kernel.step_size()) else {
            return;
        };
        let rate = f64::from(download(rate.clone())[0]);
        let gain = ((sweep + 1) as f64).sqrt().recip().max(0.1);
        self.rungs[i].kernel =
            self.rungs[i].kernel.with_step_size(h * (2.0 * gain * (rate - TARGET_ACCEPTANCE)).exp());
    }

    /// The top rung's points, `[ladders, dim]`.
    pub fn top(&self) -> Tensor<2> {
        self.walkers[self.walkers.len() - 1].position.clone()
    }

    pub fn log_ratios(&self) -> LogRatios {
        LogRatios::of(&self.differences)
    }

    /// Mean acceptances of the local moves. One read a rung.
    pub fn accept_rates(&self) -> Vec<Option<f64>> {
        let mean = |sum: &Option<Tensor<1>>| {
            let sum = f64::from(download(sum.clone()?)[0]);
            Some(sum / self.counted as f64)
        };
        self.accepted.iter().map(mean).collect()
    }
}
