//! The device operations on the `ndarray` backend, through data on the host: for small models only.

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{NdArray, TensorMetadata};
use burn::tensor::{TensorData, read_sync};
use ember_model::random::Stream;

use super::DeviceOps;
use super::increment::Step;
use super::normals;
use super::two_sum::two_sums;
use crate::resampling::Scheme;

type Device = <NdArray as burn::backend::BackendTypes>::Device;

fn values(tensor: FloatTensor<NdArray>) -> Vec<f32> {
    let data = read_sync(NdArray::float_into_data(tensor)).expect("ndarray keeps its data on the host");
    data.iter().collect()
}

fn float(values: Vec<f32>, shape: burn::tensor::Shape, device: &Device) -> FloatTensor<NdArray> {
    NdArray::float_from_data(TensorData::new(values, shape), device)
}

impl DeviceOps for NdArray {
    fn langevin_proposal(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        step_size: f32,
        noise_scale: f32,
        stream: Stream,
    ) -> FloatTensor<Self> {
        let (shape, device) = (x.shape(), Device::default());
        let mut out = vec![0.0; shape.num_elements()];
        normals::langevin_proposal(
            &mut out,
            &values(x),
            &values(grad),
            shape[1],
            step_size,
            noise_scale,
            stream,
        );
        float(out, shape, &device)
    }

    fn uniform(like: FloatTensor<Self>, stream: Stream) -> FloatTensor<Self> {
        let shape = like.shape();
        let mut words = vec![[0; 4]; shape.num_elements()];
        normals::fill_walkers(&mut words, stream);
        float(
            words.into_iter().map(|[word, ..]| super::unit_uniform(word)).collect(),
            shape,
            &Device::default(),
        )
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
        let (dim, shape) = (x.shape()[1], ux.shape());
        let [x, y, ux, gx, uy, gy] = [x, y, ux, gx, uy, gy].map(values);
        let step = Step { from: (&x, &ux, &gx), to: (&y, &uy, &gy), dim, step_size };
        float(step.increments(), shape, &Device::default())
    }

    fn accumulate(
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        delta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (shape, device) = (hi.shape(), Device::default());
        let (hi, lo) = two_sums(&values(hi), &values(lo), &values(delta));
        (float(hi, shape.clone(), &device), float(lo, shape, &device))
    }

    fn resample(log_weights: FloatTensor<Self>, scheme: Scheme, stream: Stream) -> IntTensor<Self> {
        let shape = log_weights.shape();
        let ancestors: Vec<i64> =
            scheme.ancestors(&values(log_weights), stream).into_iter().map(i64::from).collect();
        Self::int_from_data(TensorData::new(ancestors, shape), &Device::default())
    }

    fn distinct(ancestors: IntTensor<Self>, n: usize) -> IntTensor<Self> {
        let ancestors =
            read_sync(Self::int_into_data(ancestors)).expect("ndarray keeps its data on the host");
        let count = super::count_distinct(ancestors.iter::<i64>(), n);
        Self::int_from_data(TensorData::new(vec![count], [1]), &Device::default())
    }
}
