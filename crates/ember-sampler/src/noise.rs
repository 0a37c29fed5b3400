//! The random numbers of one Langevin step.

use ember_model::random::{Purpose, Stream, StreamOverflow};

/// One Langevin step's view of the generator: which numbers a kernel may draw.
///
/// A Langevin step is `update · K + sub-step`, with `K` steps per parameter update: it counts every noise draw of a run, so
/// that no two share their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// The run's seed.
    pub seed: u64,
    /// Which independent ensemble (0: the training walkers).
    pub lane: u32,
    /// The Langevin step; below 2³².
    pub step: u64,
}

impl Noise {
    /// The noise of a Langevin step that is counted by hand, on lane 0: no two steps of a run share a number.
    pub fn new(seed: u64, step: u32) -> Self {
        Self { seed, lane: 0, step: u64::from(step) }
    }

    /// The noise of sub-step `sub_step` of parameter update `update`, of `steps_per_update` each.
    ///
    /// # Errors
    /// [`StreamOverflow`] if the Langevin step does not fit 32 bits.
    pub fn at(
        seed: u64,
        lane: u32,
        update: u64,
        steps_per_update: u64,
        sub_step: u64,
    ) -> Result<Self, StreamOverflow> {
        // step = update · K + sub-step; a product beyond u64 is beyond u32 as well
        let step = update.saturating_mul(steps_per_update).saturating_add(sub_step);
        Stream::new(seed, Purpose::Noise).at(step)?;
        Ok(Self { seed, lane, step })
    }

    /// The numbers of this step that serve `purpose`.
    ///
    /// # Panics
    /// If `lane` is 2²⁴ or more or `step` 2³² or more; [`Noise::at`] checks the step.
    pub fn stream(&self, purpose: Purpose) -> Stream {
        Stream::new(self.seed, purpose)
            .lane(self.lane)
            .at(self.step)
            .unwrap_or_else(|overflow| panic!("{overflow}"))
    }
}
