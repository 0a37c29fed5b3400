//! Bilinear interpolation as two matrix products, the same on every device.

use burn::tensor::{Device, Tensor, TensorData};

/// Brings images of one size to another: pixel centres aligned, edges repeated, no smoothing when shrinking (PyTorch's
/// `interpolate(mode="bilinear", align_corners=False)`).
#[derive(Debug)]
pub struct Resize {
    /// `[h, height]`.
    rows: Tensor<2>,
    /// `[w, width]`.
    columns: Tensor<2>,
}

impl Resize {
    /// From `[h, w]` to `[height, width]`.
    pub fn new(from: [usize; 2], to: [usize; 2], device: &Device) -> Self {
        let matrix = |i: usize| {
            Tensor::from_data(TensorData::new(interpolation(from[i], to[i]), [from[i], to[i]]), device)
        };
        Self { rows: matrix(0), columns: matrix(1) }
    }

    /// `[n, c, h, w]` to `[n, c, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [n, c, h, w] = x.dims();
        let [height, width] = [self.rows.dims()[1], self.columns.dims()[1]];
        let x = x.reshape([n * c * h, w]).matmul(self.columns.clone()).reshape([n, c, h, width]);
        let x = x.swap_dims(2, 3).reshape([n * c * width, h]).matmul(self.rows.clone());
        x.reshape([n, c, width, height]).swap_dims(2, 3)
    }
}

/// Column i holds the weights of the old pixels in new pixel i, `[from, to]` row-major.
fn interpolation(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; from * to];
    for i in 0..to {
        // The centre of new pixel i in old pixels: (i + ½) from/to − ½, cut at the first and last pixel.
        let centre = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let low = centre.floor();
        let share = (centre - low) as f32;
        let low = low as usize;
        weights[low * to + i] += 1.0 - share;
        weights[(low + 1).min(from - 1) * to + i] += share;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::interpolation;

    #[test]
    fn known_values() {
        assert_eq!(interpolation(3, 3), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        // 2 → 4: centres −¼, ¼, ¾, 1¼.
        assert_eq!(interpolation(2, 4), [1.0, 0.75, 0.25, 0.0, 0.0, 0.25, 0.75, 1.0]);
        // 4 → 2: centres ½ and 2½.
        assert_eq!(interpolation(4, 2), [0.5, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.5]);
        assert_eq!(interpolation(1, 3), [1.0; 3]);
    }
}
