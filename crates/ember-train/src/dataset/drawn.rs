//! What data sets that are drawn from a known law have in common.

use ember_model::random::{Purpose, Stream};
use ember_model::{MOST_NUMBERS, SampleShape};

use super::truth::Law;
use super::{Data, Rows};
use crate::error::Error;

/// Sizes of a set as its table has them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) dim: usize,
    pub(super) train: usize,
    pub(super) test: usize,
    pub(super) batch: usize,
}

impl Sizes {
    /// Nothing empty, nothing beyond a tensor, no batch beyond the training set.
    pub(super) fn check(self) -> Result<(), Error> {
        let Self { dim, train, test, batch } = self;
        let fail = |key: &str, message: String| Err(Error::config("config", "dataset", key, message));
        let sizes = [("train_size", train), ("test_size", test)];
        for (key, size) in [("dim", dim), sizes[0], sizes[1], ("batch_size", batch)] {
            if size == 0 {
                return fail(key, "found 0, expected at least 1".into());
            }
        }
        for (key, size) in sizes {
            if size.checked_mul(dim).is_none_or(|n| n > MOST_NUMBERS) {
                let message = format!(
                    "{size} samples × dim = {dim} is more than {MOST_NUMBERS} numbers, the most a tensor can hold"
                );
                return fail(key, message);
            }
        }
        if batch > train {
            return fail("batch_size", format!("found {batch}, expected at most train_size = {train}"));
        }
        Ok(())
    }

    /// The samples of `law`, training and held-out ones from different lanes.
    pub(super) fn draw(self, law: &dyn Law, seed: u64) -> Data {
        let stream = Stream::new(seed, Purpose::Data);
        let (train, train_labels) = law.draw(self.train, stream, 0);
        let (test, test_labels) = law.draw(self.test, stream, law.lanes());
        Data {
            shape: SampleShape::Flat(self.dim),
            train: Rows::F32(train),
            train_labels,
            test: Rows::F32(test),
            test_labels,
            class_names: Vec::new(),
        }
    }
}
