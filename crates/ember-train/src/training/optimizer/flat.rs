//! All of θ in one buffer, and what an optimiser keeps of it there.

use burn::tensor::{Device, Tensor};
use ember_model::ParamSpec;
use ember_model::flat::Layout;
use ember_model::params::upload;

use super::table::OptimizerConfig;

/// What an optimiser over one buffer keeps, on the device.
pub(super) struct Flat {
    pub layout: Layout,
    /// Each parameter's share of the learning rate, `[total]`.
    pub scales: Tensor<1>,
    /// `[total]` each, where the rule has any.
    pub moments: [Tensor<1>; 2],
    /// Steps made.
    pub time: u64,
}

impl Flat {
    pub fn new(config: &OptimizerConfig, params: &[ParamSpec], device: &Device) -> Self {
        let layout = Layout::new(params.iter().map(ParamSpec::len));
        let mut scales = vec![0.0; layout.total];
        for ((&begin, &len), spec) in layout.begins.iter().zip(&layout.lens).zip(params) {
            scales[begin..begin + len].fill(spec.learning_rate_scale as f32);
        }
        let kept = if config.as_dyn().moments() == 0 { 1 } else { layout.total };
        let moments = Tensor::zeros([kept], device);
        Self { layout, scales: upload(scales, device), moments: [moments.clone(), moments], time: 0 }
    }
}
