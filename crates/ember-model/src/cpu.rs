//! What the explicit CPU forms share: tensors as slices of host memory, and buffers kept between calls.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Device, Tensor, TensorData};

/// The tensor in contiguous host memory, or `None` where it is not a plain CPU tensor.
pub(crate) fn host<const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Flex>> {
    Some(tensor.clone().try_into_primitive::<Flex>().ok()?.to_contiguous())
}

/// The tensor of some numbers.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
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
    /// Runs `f` with free buffers, or with `new` ones.
    pub fn with<R>(&self, new: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
        // Buffers are only here while nobody writes to them, so a panic elsewhere leaves nothing half done.
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffers = free.unwrap_or_else(new);
        let result = f(&mut buffers);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        result
    }
}
