//! Energies and their gradients, in x and in θ, are PyTorch's. `golden/README.md` says how the references were made.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel, EnergySpec, HostTensor};
use ember_tests::{cpu, gpu};
use ember_train::store::tensor_file::TensorFile;

/// Of the largest reference value of the tensor compared.
const TOLERANCE: f32 = 1e-4;

const NAMES: [&str; 4] = ["mlp", "conv", "resnet", "resnet_spectral"];

/// A model with the values PyTorch gives.
struct Golden {
    spec: EnergySpec,
    theta: Vec<HostTensor>,
    references: Vec<HostTensor>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let path: PathBuf =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}_pytorch.safetensors"));
        let file = TensorFile::read(&path).expect("a golden file");
        let spec = EnergySpec::from_metadata(&file.metadata["ember.config"]).expect("an energy");
        let tensors = file.into_host_tensors(&path).expect("floats");
        let is_reference = |name: &str| {
            ["position", "weights", "energy", "energy_grad"].contains(&name) || name.starts_with("grad.")
        };
        let (references, theta) = tensors.into_iter().partition(|tensor| is_reference(&tensor.name));
        Self { spec, theta, references }
    }

    fn get(&self, name: &str) -> &HostTensor {
        self.references.iter().find(|tensor| tensor.name == name).expect("a reference tensor")
    }

    fn model(&self, theta: Vec<HostTensor>, device: &Device) -> EnergyModel {
        EnergyModel::from_tensors(self.spec.clone(), theta, device).expect("a model")
    }

    /// Everything PyTorch computed, computed here: name and `max |difference| / max |reference|`.
    fn differences(&self, model: &EnergyModel) -> Vec<(String, f32)> {
        let device = model.device();
        let position = self.get("position");
        let shape: [usize; 2] = position.shape.as_slice().try_into().expect("[N, d]");
        let x = Tensor::from_data(TensorData::new(position.values.clone(), shape), device);
        let w = upload(self.get("weights").values.clone(), device);
        let (energy, energy_grad) = model.energy_and_grad(x.clone());
        let mut found = vec![
            ("energy".to_owned(), download(model.energy(x.clone()))),
            ("energy".to_owned(), download(energy)),
            ("energy_grad".to_owned(), download(energy_grad)),
        ];
        // Two terms, each with half the weights: the sum over terms is part of the contract.
        let half = w * 0.5;
        let grads = model.weighted_param_grads(&[(x.clone(), half.clone()), (x, half)]);
        for energies in grads.energies {
            found.push(("energy".to_owned(), download(energies)));
        }
        for (spec, grad) in model.params().into_iter().zip(grads.grads) {
            found.push((format!("grad.{}", spec.name), download(grad)));
        }
        let difference = |(name, values): (String, Vec<f32>)| {
            let difference = relative(&values, &self.get(&name).values);
            (name, difference)
        };
        found.into_iter().map(difference).collect()
    }
}

fn relative(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let scale = reference.iter().map(|v| v.abs()).fold(0.0, f32::max);
    assert!(scale > 0.0 && found.iter().all(|v| v.is_finite()));
    found.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale
}

fn agrees(name: &str, device: &Device) {
    let golden = Golden::read(name);
    let model = golden.model(golden.theta.clone(), device);
    let differences = golden.differences(&model);
    assert_eq!(differences.len(), 5 + golden.theta.len(), "{name}: every reference is compared");
    for (what, difference) in differences {
        println!("{name} {what}: {difference:.1e}");
        assert!(difference <= TOLERANCE, "{name} {what}: off by {difference:.2e}");
    }
}

#[test]
fn the_cpu_agrees_with_pytorch() {
    for name in NAMES {
        agrees(name, &cpu());
    }
}

#[test]
fn the_gpu_path_agrees_with_pytorch() {
    let Some(device) = gpu() else { return };
    for name in NAMES {
        agrees(name, &device);
    }
}

/// The tolerance sees a change of 1 % in one weight, whichever layer it is in: the one that matters most there.
#[test]
fn one_weight_off_by_one_percent_is_seen() {
    for name in NAMES {
        let golden = Golden::read(name);
        for layer in golden.theta.iter().filter(|tensor| tensor.name.ends_with(".weight")) {
            let effect =
                |i: usize| (layer.values[i] * golden.get(&format!("grad.{}", layer.name)).values[i]).abs();
            let largest =
                (0..layer.values.len()).max_by(|&a, &b| effect(a).total_cmp(&effect(b))).expect("weights");
            let mut theta = golden.theta.clone();
            for tensor in theta.iter_mut().filter(|tensor| tensor.name == layer.name) {
                tensor.values[largest] *= 1.01;
            }
            let differences = golden.differences(&golden.model(theta, &cpu()));
            let energy = differences.iter().find(|(what, _)| what == "energy").expect("energies").1;
            let worst = differences.iter().map(|(_, difference)| *difference).fold(0.0, f32::max);
            println!("{name} {}[{largest}]: energy {energy:.1e}, worst {worst:.1e}", layer.name);
            assert!(energy > TOLERANCE, "{name} {}: {energy:.2e} goes unseen", layer.name);
        }
    }
}
