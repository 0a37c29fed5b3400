//! θ, or a gradient in it, as one buffer: all tensors one after the other, each from a multiple of [`ALIGNMENT`] on, zeros between.
//!
//! On a GPU a tensor of the buffer is a view of it ([`view`]): no launch, no copy. [`pack`] is the way back, in one launch, and in
//! none where its parts are already views that stand as the layout says. Elsewhere both are tensor operations.

#[cfg(feature = "wgpu")]
mod gpu;

use burn::tensor::Tensor;

use crate::params::ParamSpec;

/// Every tensor begins at a multiple of this many floats: 256 bytes, the largest offset alignment that WebGPU lets an adapter ask for.
pub const ALIGNMENT: usize = 64;

/// Where the tensors of a flat buffer are, in floats.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Where each tensor begins.
    pub begins: Vec<usize>,
    /// Floats of each tensor.
    pub lens: Vec<usize>,
    /// Floats of the buffer, a multiple of [`ALIGNMENT`].
    pub total: usize,
}

impl Layout {
    /// The layout of tensors of these lengths.
    pub fn new(lens: impl Iterator<Item = usize>) -> Self {
        let lens: Vec<usize> = lens.collect();
        let mut total = 0;
        let begins = lens
            .iter()
            .map(|len| {
                let begin = total;
                total += len.next_multiple_of(ALIGNMENT);
                begin
            })
            .collect();
        Self { begins, lens, total }
    }

    /// The layout of these parameters.
    pub fn of(params: &[ParamSpec]) -> Self {
        Self::new(params.iter().map(ParamSpec::len))
    }

    /// Begin and length of each tensor.
    pub fn ranges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.begins.iter().copied().zip(self.lens.iter().copied())
    }

    /// The tensors of `flat: [total]`.
    ///
    /// # Panics
    /// If `flat` is too short.
    pub fn views(&self, flat: &Tensor<1>) -> Vec<Tensor<1>> {
        self.ranges().map(|(begin, len)| view(flat, begin, len)).collect()
    }
}

/// `flat[begin .. begin + len]`: on a GPU the same memory, where `begin` is a multiple of [`ALIGNMENT`].
///
/// # Panics
/// If the range goes beyond the end.
pub fn view(flat: &Tensor<1>, begin: usize, len: usize) -> Tensor<1> {
    let [all] = flat.dims();
    assert!(begin + len <= all, "{begin} + {len} floats of a buffer of {all}");
    #[cfg(feature = "wgpu")]
    if let Some(view) = gpu::view(flat, begin, len) {
        return view;
    }
    flat.clone().narrow(0, begin, len)
}

/// The flat buffer `[total]` of these tensors, of which there is one or more, in their [`Layout`]: padding is zero. On a GPU one
/// launch for up to 16 tensors, and none where they are all the tensors of one buffer already.
pub fn pack(parts: &[Tensor<1>]) -> Tensor<1> {
    let layout = Layout::new(parts.iter().map(|part| part.dims()[0]));
    #[cfg(feature = "wgpu")]
    if let Some(flat) = gpu::pack(parts, &layout) {
        return flat;
    }
    let device = parts[0].device();
    let mut pieces = Vec::with_capacity(2 * parts.len());
    for (part, len) in parts.iter().zip(&layout.lens) {
        let padding = len.next_multiple_of(ALIGNMENT) - len;
        pieces.push(part.clone());
        if padding > 0 {
            pieces.push(Tensor::zeros([padding], &device));
        }
    }
    match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => Tensor::cat(pieces, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_begin_at_multiples_of_the_alignment() {
        let layout = Layout::new([1, 64, 65, 0, 3].into_iter());
        assert_eq!(layout.begins, [0, 64, 128, 256, 256]);
        assert_eq!(layout.lens, [1, 64, 65, 0, 3]);
        assert_eq!(layout.total, 320);
    }

    #[test]
    fn nothing_takes_no_room() {
        assert_eq!(Layout::new(std::iter::empty()).total, 0);
    }
}
