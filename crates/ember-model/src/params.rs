//! Parameters as a flat list: optimisers, clipping, averaging and files never need to know an energy's structure.

use burn::tensor::{Device, Tensor, TensorData};

/// Name, shape and treatment of one parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// PyTorch name, for example `layers.0.weight`.
    pub name: String,
    /// PyTorch layout, for example `[out, in]`.
    pub shape: Vec<usize>,
    /// The optimiser's learning rate is multiplied by this; 0 freezes the tensor.
    pub learning_rate_scale: f64,
}

impl ParamSpec {
    /// A trained tensor with the common learning rate.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), learning_rate_scale: 1.0 }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A named tensor in host memory, as weight files hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// PyTorch name.
    pub name: String,
    /// PyTorch layout.
    pub shape: Vec<usize>,
    /// Row-major values, `shape.product()` of them.
    pub values: Vec<f32>,
}

/// Uploads one flat parameter, `[len]`.
pub fn upload(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Reads one flat tensor, `[len]`, back to the host. Waits for the device.
pub fn download<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
