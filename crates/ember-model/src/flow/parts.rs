//! The two contiguous parts that a coupling cuts its coordinates into.

use burn::tensor::Tensor;

/// Two contiguous parts, and which of them a coupling moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Coordinates of the first and of the second part.
    pub widths: [usize; 2],
    /// Whether the first part moves, given the second; else the second moves, given the first.
    pub moves_first: bool,
}

impl Parts {
    /// Coordinates of the part that stays.
    pub fn stays(&self) -> usize {
        self.widths[usize::from(self.moves_first)]
    }

    /// Coordinates of the part that moves.
    pub fn moves(&self) -> usize {
        self.widths[usize::from(!self.moves_first)]
    }

    /// The part that stays and the part that moves.
    pub fn split(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let [first, second] = self.widths;
        let (a, b) = (x.clone().narrow(1, 0, first), x.narrow(1, first, second));
        if self.moves_first { (b, a) } else { (a, b) }
    }

    /// Undoes [`Parts::split`].
    pub fn join(&self, stays: Tensor<2>, moved: Tensor<2>) -> Tensor<2> {
        Tensor::cat(if self.moves_first { vec![moved, stays] } else { vec![stays, moved] }, 1)
    }
}
