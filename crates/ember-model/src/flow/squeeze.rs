//! Rearranging an image so that couplings cut it in contiguous halves.
//!
//! [`Squeeze`] (Dinh et al. 2017, section 3.6) turns each 2×2 square of pixels into four groups of channels:
//! `[c, h, w]` → `[4c, h/2, w/2]`. In the order `00, 11, 01, 10` of the pixels of a square, the first half of the channels are one
//! colour of the checkerboard and the second half the other; in the order `00, 01, 11, 10` the halves are rows, which share
//! pixels of both colours.

use burn::tensor::Tensor;

use super::chain::Layer;

/// Groups of channels, from pixels `00, 01, 10, 11`, in the order that makes the checkerboard's colours halves.
pub(super) const CHECKERBOARD: Regroup = Regroup([0, 3, 1, 2]);
/// From that order to the one that makes rows halves.
pub(super) const ROWS: Regroup = Regroup([0, 2, 1, 3]);

/// `[c, h, w]` → `[4c, h/2, w/2]` on the way to z, squares of pixels to groups of channels `00, 01, 10, 11`.
#[derive(Clone, Debug)]
pub(super) struct Squeeze {
    /// `[c, h, w]`, sides even.
    pub image: [usize; 3],
}

impl Layer for Squeeze {
    fn forward(&self, _theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, dim] = z.dims();
        let [c, h, w] = self.image;
        let log_det = Tensor::zeros([n], &z.device());
        let squares = z.reshape([n, 2, 2, c, h / 2, w / 2]);
        (squares.permute([0, 3, 4, 1, 5, 2]).reshape([n, dim]), log_det)
    }

    fn inverse(&self, _theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, dim] = x.dims();
        let [c, h, w] = self.image;
        let log_det = Tensor::zeros([n], &x.device());
        let pixels = x.reshape([n, c, h / 2, 2, w / 2, 2]);
        (pixels.permute([0, 3, 5, 1, 2, 4]).reshape([n, dim]), log_det)
    }
}

/// Place k, towards z, is taken from quarter `self.0[k]` of the channels.
#[derive(Clone, Debug)]
pub(super) struct Regroup([usize; 4]);

/// `x` with quarter `from[k]` of its columns in place k.
fn reorder(x: Tensor<2>, from: [usize; 4]) -> Tensor<2> {
    let [_, dim] = x.dims();
    let quarter = dim / 4;
    Tensor::cat(from.into_iter().map(|k| x.clone().narrow(1, k * quarter, quarter)).collect(), 1)
}

impl Layer for Regroup {
    fn forward(&self, _theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let log_det = Tensor::zeros([z.dims()[0]], &z.device());
        let mut back = [0; 4];
        for (place, &quarter) in self.0.iter().enumerate() {
            back[quarter] = place;
        }
        (reorder(z, back), log_det)
    }

    fn inverse(&self, _theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let log_det = Tensor::zeros([x.dims()[0]], &x.device());
        (reorder(x, self.0), log_det)
    }
}
