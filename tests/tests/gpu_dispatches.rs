//! Ceilings on what a step costs on the GPU path, in kernel launches and bytes: software Vulkan counts as well as a GPU does.
//!
//! `cargo test --release -p ember-tests --test gpu_dispatches -- --nocapture` prints the counts.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::flat::{Layout, pack};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::{Kernel, Noise, Scheme, Walkers, resample};
use ember_tests::configs::config;
use ember_tests::gpu;
use ember_tests::gpu_work::{Work, alone, count};
use ember_train::trainer::Trainer;

const MLP: &str = "kind = \"mlp\"\ndim = 2\nhidden = [128, 128, 128]\nconfinement = 1.0\n";
const CIFAR: &str =
    "kind = \"conv\"\nshape = [3, 32, 32]\nactivation = \"leaky_relu\"\nconfinement = 0.01\nlayers = [
    { out = 64, kernel = 3, padding = 1 }, { out = 128, kernel = 4, stride = 2, padding = 1 },
    { out = 256, kernel = 4, stride = 2, padding = 1 }, { out = 512, kernel = 4, stride = 2, padding = 1 },
    { out = 1, kernel = 4 }]\n";

/// The flow of the peers' benchmark (RealNVP, 182,528 parameters).
const FLOW: &str = "kind = \"real_nvp\"\ndim = 32\nlayers = 8\nhidden = [128, 128]\nactivation = \"relu\"\n";

fn model(metadata: &str, device: &Device) -> EnergyModel {
    let spec = EnergySpec::from_metadata(metadata).expect("an energy");
    EnergyModel::init(spec, 1, device).expect("it fits")
}

fn normals(shape @ [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
    let values = Stream::new(1, Purpose::Start).normals(rows, columns);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// At most this many launches and megabytes for one repeat, and as many reads in all.
#[track_caller]
fn keeps_within(what: &str, work: &Work, dispatches: f64, megabytes: f64, reads: usize) {
    println!("{what}: {work}");
    assert!(work.dispatches() > 0.0 && work.bytes > 0, "{what}: nothing was counted");
    assert!(work.dispatches() <= dispatches, "{what}: more than {dispatches} launches: {work}");
    assert!(work.bytes_each() <= megabytes * 1e6, "{what}: more than {megabytes} MB: {work}");
    assert_eq!(work.reads, reads, "{what}: reads by the host");
}

/// `steps` of a kernel on 4,096 walkers of the MLP.
fn steps(kernel: &dyn Kernel, device: &Device, steps: usize) -> Work {
    let model = model(MLP, device);
    let mut walkers = Walkers::new(&model, normals([4096, 2], device), 0.0);
    let mut step = 0;
    let work = count(device, steps, || {
        let noise = Noise { seed: 1, lane: 0, step };
        step += 1;
        walkers = kernel.step(&model, walkers.clone(), &noise).0;
    });
    assert!(walkers.summary().finite, "a launch that failed is counted, too");
    work
}

#[test]
fn a_weighted_ula_step() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    keeps_within("ULA, MLP, 4,096 walkers", &steps(&Ula::new(0.01), &device, 8), 3.0, 0.6, 0);
}

#[test]
fn a_mala_step() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    keeps_within("MALA, MLP, 4,096 walkers", &steps(&Mala::new(0.01), &device, 8), 12.0, 1.1, 0);
}

const TRAINING: &str = r#"
seed = 1
steps = 100
[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[2.0, 0.0], [-2.0, 0.0]]
weights = [0.3, 0.7]
train_size = 8192
test_size = 16
batch_size = 4096
[energy]
kind = "mlp"
hidden = [128, 128, 128]
confinement = 1.0
[walkers]
count = 4096
[kernel]
kind = "ula"
step_size = 0.01
steps_per_update = 1
[resampling]
ess_threshold = 0.001
[objective]
kind = "jarzynski"
[optimizer]
kind = "adam"
learning_rate = 1e-4
[output]
log_every = 100
"#;

/// Of the reads, one an update is the ess that resampling asks for.
#[test]
fn a_weighted_training_update() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let mut trainer = Trainer::new(config(TRAINING), &device).expect("a trainer");
    let work = count(&device, 4, || {
        trainer.update(false).expect("an update");
    });
    assert!(trainer.walkers.summary().finite, "a launch that failed is counted, too");
    keeps_within("training update, MLP, 4,096 + 4,096", &work, 88.0, 118.0, 4);
}

#[test]
fn an_energy_and_gradient_of_the_image_network() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(CIFAR, &device);
    let x = normals([4, 3072], &device);
    // Once, and kept: independent repeats would share kernels, and what is dropped before it is run is never run.
    let mut all = Vec::new();
    let work = count(&device, 1, || all.push(model.energy_and_grad(x.clone())));
    let (energy, grad) = all.pop().expect("it has run");
    assert!(download(energy).iter().chain(&download(grad)).all(|v| v.is_finite()), "a launch failed");
    keeps_within("(U, ∇U), CIFAR network, 4 walkers", &work, 29.0, 63.0, 0);
}

/// The gradient of a RealNVP training step: θ packed, the chain there and back, the sums. The optimiser is not in it. Of the bytes
/// most are views of the flat gradient, each of which counts as if it read the whole.
#[test]
fn a_gradient_of_a_flow() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(FLOW, &device);
    let terms = [(normals([1024, 32], &device), Tensor::full([1024], 1.0 / 1024.0, &device))];
    let mut all = Vec::new();
    let work = count(&device, 1, || all.push(model.weighted_param_grads(&terms)));
    let found = all.pop().expect("it has run");
    assert!(found.grads.into_iter().flat_map(download).all(|v| v.is_finite()), "a launch failed");
    keeps_within("∂U/∂θ, RealNVP, 1,024 rows", &work, 6.0, 45.0, 0);
    // Where θ is one buffer already, two launches.
    let flat = pack(model.theta());
    let views = Layout::of(&model.params()).views(&flat);
    let model = model.with_theta(views);
    let mut all = Vec::new();
    let work = count(&device, 1, || all.push(model.weighted_param_grads(&terms)));
    keeps_within("∂U/∂θ, RealNVP of one buffer, 1,024 rows", &work, 2.0, 45.0, 0);
}

/// What a move and a draw of a flow cost.
#[test]
fn a_pass_of_a_flow() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let start = model(FLOW, &device);
    let flat = pack(start.theta());
    let model = start.with_theta(Layout::of(&start.params()).views(&flat));
    let x = normals([256, 32], &device);
    let mut all = Vec::new();
    let work = count(&device, 1, || all.push(model.energy_and_grad(x.clone())));
    let (energy, grad) = all.pop().expect("it has run");
    assert!(download(energy).iter().chain(&download(grad)).all(|v| v.is_finite()), "a launch failed");
    keeps_within("(U, ∇U), RealNVP, 256 rows", &work, 1.0, 6.0, 0);
    let mut all = Vec::new();
    let work =
        count(&device, 1, || all.push(model.flow().expect("a flow").forward(model.theta(), x.clone())));
    keeps_within("a draw, RealNVP, 256 rows", &work, 1.0, 6.0, 0);
}

#[test]
fn a_resampling() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let n = 1 << 16;
    let log_weights = upload(Stream::new(2, Purpose::Noise).normals(1, n), &device);
    let rows = normals([n, 2], &device);
    let (mut update, mut all) = (0, Vec::new());
    let work = count(&device, 1, || {
        let stream = Stream::new(3, Purpose::Resampling).at(update).expect("small");
        update += 1;
        let ancestors = resample(Scheme::Systematic, log_weights.clone(), stream);
        all.push(rows.clone().select(0, ancestors));
    });
    assert!(download(all.pop().expect("it has run")).iter().all(|v| v.is_finite()), "a launch failed");
    keeps_within("systematic resampling with the gather, 65,536 walkers", &work, 25.0, 2.0, 0);
}
