//! Draws of a normal law away from the origin.

use ember_model::SampleShape;
use ember_model::random::{Purpose, Stream};
use ember_train::dataset::{Data, Dataset, Rows};
use ember_train::error::Error;

/// The table.
#[derive(Clone, Copy, Debug)]
pub struct Shifted {
    /// Coordinates of a sample.
    pub dim: usize,
    /// The mean of every coordinate.
    pub shift: f32,
    /// Training samples; as many are held out.
    pub count: usize,
}

impl Dataset for Shifted {
    fn shape(&self) -> SampleShape {
        SampleShape::Flat(self.dim)
    }

    fn generate(&self, seed: u64) -> Result<Data, Error> {
        let draw = |lane| -> Vec<f32> {
            let normals = Stream::new(seed, Purpose::Data).lane(lane).normals(self.count, self.dim);
            normals.into_iter().map(|x| x + self.shift).collect()
        };
        Ok(Data {
            shape: self.shape(),
            train: Rows::F32(draw(0)),
            train_labels: vec![0; self.count],
            test: Rows::F32(draw(1)),
            test_labels: vec![0; self.count],
            class_names: Vec::new(),
        })
    }

    fn batch_size(&self) -> usize {
        self.count
    }

    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}
