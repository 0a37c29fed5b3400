//! Bars and stripes: `side × side` bits of which whole rows or whole columns are set (MacKay 2003), a law of zeros and ones that is known.

use ember_model::SampleShape;
use ember_model::random::{Purpose, Stream};
use ember_train::dataset::{Data, Dataset, Rows};
use ember_train::error::Error;

/// The table.
#[derive(Clone, Copy, Debug)]
pub struct Bars {
    /// Rows and columns.
    pub side: usize,
    /// Training samples; as many are held out.
    pub count: usize,
}

impl Bars {
    fn drawn(&self, stream: Stream) -> Vec<f32> {
        let side = self.side;
        let coins = stream.uniforms(self.count, side + 1);
        let pattern = |coins: &[f32]| -> Vec<f32> {
            let on = |line: usize| f32::from(u8::from(coins[1 + line] < 0.5));
            let upright = coins[0] < 0.5;
            (0..side * side).map(|i| on(if upright { i % side } else { i / side })).collect()
        };
        coins.chunks_exact(side + 1).flat_map(pattern).collect()
    }
}

impl Dataset for Bars {
    fn shape(&self) -> SampleShape {
        SampleShape::Flat(self.side * self.side)
    }

    fn generate(&self, seed: u64) -> Result<Data, Error> {
        let draw = |lane| Rows::F32(self.drawn(Stream::new(seed, Purpose::Data).lane(lane)));
        Ok(Data {
            shape: self.shape(),
            train: draw(0),
            train_labels: vec![0; self.count],
            test: draw(1),
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
