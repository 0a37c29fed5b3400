//! What the explicit CPU forms share: tensors as slices of host memory, matrix products, buffers kept between calls, and the
//! walk over blocks of rows (`form.rs`).

mod form;

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Device, Tensor, TensorData};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

pub(crate) use form::{CpuForm, Passes, doubled};

/// The tensor in contiguous host memory, or `None` where it is not a plain CPU tensor.
pub(crate) fn host<const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Flex>> {
    Some(tensor.clone().try_into_primitive::<Flex>().ok()?.to_contiguous())
}

/// The tensor of some numbers.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The tensors in host memory, or `None` where one is not a plain CPU tensor.
pub(crate) fn hosts(theta: &[Tensor<1>]) -> Option<Vec<FloatTensor<Flex>>> {
    theta.iter().map(host).collect()
}

/// The numbers of some tensors, or `None` where one does not hold 32-bit floats.
pub(crate) fn slices(tensors: &[FloatTensor<Flex>]) -> Option<Vec<&[f32]>> {
    tensors.iter().map(|tensor| tensor.as_slice()).collect()
}

/// `values: [shape[0], shape[1]]`.
pub(crate) fn by_rows<'a>(values: &'a [f32], shape: &[usize]) -> MatRef<'a, f32> {
    MatRef::from_row_major_slice(values, shape[0], shape[1])
}

/// `to += a b`, by this thread.
pub(crate) fn add_product(to: &mut [f32], a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    product(to, Accum::Add, a, b);
}

/// `to = a b` or `to += a b`, by this thread.
pub(crate) fn product(to: &mut [f32], accum: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    let to = MatMut::from_row_major_slice_mut(to, a.nrows(), b.ncols());
    matmul(to, accum, a, b, 1.0, Par::Seq);
}

/// `from: [rows, columns]` into `to: [columns, rows]`, in tiles that stay in the cache whatever the sides.
pub(crate) fn transpose(from: &[f32], to: &mut [f32], rows: usize) {
    const TILE: usize = 16;
    let columns = from.len() / rows;
    for first in (0..columns).step_by(TILE) {
        for begin in (0..rows).step_by(TILE) {
            for column in first..(first + TILE).min(columns) {
                let to = &mut to[column * rows..(column + 1) * rows];
                for row in begin..(begin + TILE).min(rows) {
                    to[row] = from[row * columns + column];
                }
            }
        }
    }
}

/// Buffers that are free, as many as there have been threads at work: asking the system for fresh pages costs as much as a small
/// network.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Pool<T> {
    /// Free buffers, or `new` ones.
    pub fn take(&self, new: impl FnOnce() -> T) -> T {
        // Buffers are only here while nobody writes to them, so a panic elsewhere leaves nothing half done.
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(new)
    }

    /// Gives buffers back.
    pub fn put(&self, buffers: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }

    /// Runs `f` with free buffers, or with `new` ones.
    pub fn with<R>(&self, new: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
        let mut buffers = self.take(new);
        let result = f(&mut buffers);
        self.put(buffers);
        result
    }
}
