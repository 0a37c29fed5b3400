//! The device operations on the processor backend.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::TensorData;
use ember_model::random::Stream;

use super::DeviceOps;
use super::increment::Step;
use super::normals;
use super::two_sum::two_sums;
use crate::resampling::Scheme;

/// The values of a contiguous tensor, row-major.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("made contiguous; the sampler works in f32")
}

impl DeviceOps for Flex {
    fn langevin_proposal(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        step_size: f32,
        noise_scale: f32,
        stream: Stream,
    ) -> FloatTensor<Self> {
        let (x, grad) = (x.to_contiguous(), grad.to_contiguous());
        let shape = x.shape();
        let mut out = vec![0.0; shape.num_elements()];
        normals::langevin_proposal(
            &mut out,
            values(&x),
            values(&grad),
            shape[1],
            step_size,
            noise_scale,
            stream,
        );
        FlexTensor::from_data(TensorData::new(out, shape))
    }

    fn uniform(like: FloatTensor<Self>, stream: Stream) -> FloatTensor<Self> {
        let shape = like.shape();
        let mut words = vec![[0; 4]; shape.num_elements()];
        normals::fill_walkers(&mut words, stream);
        let uniforms: Vec<f32> = words.into_iter().map(|[word, ..]| super::unit_uniform(word)).collect();
        FlexTensor::from_data(TensorData::new(uniforms, shape))
    }

    fn ula_log_weight_increment(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        ux: FloatTensor<Self>,
        gx: FloatTensor<Self>,
        uy: FloatTensor<Self>,
        gy: FloatTensor<Self>,
        step_size: f32,
    ) -> FloatTensor<Self> {
        let [x, y, ux, gx, uy, gy] = [x, y, ux, gx, uy, gy].map(|tensor| tensor.to_contiguous());
        let step = Step {
            from: (values(&x), values(&ux), values(&gx)),
            to: (values(&y), values(&uy), values(&gy)),
            dim: x.shape()[1],
            step_size,
        };
        FlexTensor::from_data(TensorData::new(step.increments(), ux.shape()))
    }

    fn accumulate(
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        delta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [hi, lo, delta] = [hi, lo, delta].map(|tensor| tensor.to_contiguous());
        let shape = hi.shape();
        let (hi, lo) = two_sums(values(&hi), values(&lo), values(&delta));
        let tensor = |values| FlexTensor::from_data(TensorData::new(values, shape.clone()));
        (tensor(hi), tensor(lo))
    }

    fn resample(log_weights: FloatTensor<Self>, scheme: Scheme, stream: Stream) -> IntTensor<Self> {
        let log_weights = log_weights.to_contiguous();
        let ancestors = scheme.ancestors(values(&log_weights), stream);
        FlexTensor::from_data(TensorData::new(ancestors, log_weights.shape()))
    }

    fn distinct(ancestors: IntTensor<Self>, n: usize) -> IntTensor<Self> {
        let ancestors = ancestors.into_data();
        let dtype = ancestors.dtype();
        let count = super::count_distinct(ancestors.iter::<i64>(), n);
        FlexTensor::from_data(TensorData::new(vec![count], [1]).convert_dtype(dtype))
    }
}
