//! Ceilings on what a step costs on the GPU path, in kernel launches and bytes: software Vulkan counts as well as a GPU does.
//!
//! `cargo test --release -p ember-tests --test gpu_dispatches -- --nocapture` prints the counts.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::flat::{Layout, pack};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::reduce::{self, Reduction};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Counter, Kernel, Noise, Pages, Scheme, Walkers, resample};
use ember_tests::configs::config;
use ember_tests::gpu;
use ember_tests::gpu_work::{Work, alone, count};
use ember_train::training::trainer::Trainer;

const MLP: &str = "kind = \"mlp\"\ndim = 2\nhidden = [128, 128, 128]\nconfinement = 1.0\n";
const MIXTURE: &str = "kind = \"gaussian_mixture\"\ndim = 50\nmeans = [[-2.0], [2.0]]\n";
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

/// What the last repeat gave: results of those before are free, as in a loop.
struct Last<T>(Option<T>);

impl<T> Last<T> {
    fn push(&mut self, value: T) {
        self.0 = Some(value);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.take()
    }
}

/// At most this many launches and megabytes for one repeat, and as many reads in all.
#[track_caller]
fn keeps_within(what: &str, work: &Work, dispatches: f64, megabytes: f64, reads: usize) {
    println!("{what}: {work}");
    assert!(work.dispatches() > 0.0 && work.bytes > 0, "{what}: nothing was counted");
    assert!(work.dispatches() <= dispatches, "{what}: more than {dispatches} launches: {work}");
    assert!(work.bytes_each() <= megabytes * 1e6, "{what}: more than {megabytes} MB: {work}");
    assert_eq!(work.reads, reads, "{what}: reads by the host");
    assert_eq!(work.allocations, reads, "{what}: buffers allocated, but for those that a read maps");
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
    keeps_within("ULA, MLP, 4,096 walkers", &steps(&Ula::new(0.01), &device, 8), 1.0, 0.6, 0);
}

#[test]
fn a_mala_step() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    keeps_within("MALA, MLP, 4,096 walkers", &steps(&Mala::new(0.01), &device, 8), 2.0, 0.6, 0);
}

#[test]
fn a_chain_of_eight_steps() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(MLP, &device);
    let mut walkers = Walkers::new(&model, normals([4096, 2], &device), 0.0);
    let mut first = 0;
    let work = count(&device, 4, || {
        let noise = |step: u64| Noise { seed: 1, lane: 0, step: first + step };
        walkers = Ula::new(0.01).steps(&model, &model, walkers.clone(), 8, &noise).0;
        first += 8;
    });
    assert!(walkers.summary().finite, "a launch that failed is counted, too");
    keeps_within("8 steps of ULA, MLP, 4,096 walkers", &work, 1.0, 0.6, 0);
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

/// What one update of a run costs, once it is under way.
fn update_of(text: &str, device: &Device) -> Work {
    let mut trainer = Trainer::new(config(text), device).expect("a trainer");
    let work = count(device, 4, || {
        trainer.update(false).expect("an update");
    });
    assert!(trainer.check().is_ok(), "a launch that failed is counted, too");
    work
}

#[test]
fn a_weighted_training_update() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    keeps_within("training update, MLP, 4,096 + 4,096", &update_of(TRAINING, &device), 8.0, 6.0, 0);
}

/// All that a log step says comes in one transfer: statistics, bank, counter, ancestors, energies, the alarm and the audit.
#[test]
fn a_log_step() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let text = format!("{TRAINING}[audit]\nwalkers = 256\nrepeats = 4\nevery = 1\n");
    let mut trainer = Trainer::new(config(&text), &device).expect("a trainer");
    let work = count(&device, 4, || {
        let info = trainer.update(true).expect("an update");
        assert!(info.logged.is_some() && info.reading.is_some() && info.log_z_audit.is_some());
    });
    println!("an update that is logged: {work}");
    assert_eq!(work.reads, work.repeats, "{work}");
}

#[test]
fn a_training_update_of_the_mixture() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let mixture =
        "kind = \"gaussian_mixture\"\nmeans = [[-0.1], [0.1]]\nmeans_noise = 0.01\ntrain_means = true\n";
    let text = TRAINING
        .replace("dim = 2\nmeans = [[2.0, 0.0], [-2.0, 0.0]]", "dim = 50\nmeans = [[-10.0], [6.0]]")
        .replace("train_size = 8192", "train_size = 4096")
        .replace("kind = \"mlp\"\nhidden = [128, 128, 128]\nconfinement = 1.0\n", mixture)
        .replace("kind = \"adam\"", "kind = \"sgd\"");
    keeps_within("training update, mixture d = 50, 4,096 + 4,096", &update_of(&text, &device), 8.0, 14.0, 0);
}

#[test]
fn a_training_step_of_a_flow() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let begin = TRAINING.find("[walkers]").expect("a table");
    let end = TRAINING.find("[optimizer]").expect("a table");
    let flow = "kind = \"real_nvp\"\nlayers = 8\nhidden = [128, 128]\nactivation = \"relu\"\n";
    let text =
        format!("{}[objective]\nkind = \"maximum_likelihood\"\n{}", &TRAINING[..begin], &TRAINING[end..])
            .replace("dim = 2\nmeans = [[2.0, 0.0], [-2.0, 0.0]]", "dim = 32\nmeans = [[2.0], [-2.0]]")
            .replace("kind = \"mlp\"\nhidden = [128, 128, 128]\nconfinement = 1.0\n", flow)
            .replace("batch_size = 4096", "batch_size = 1024");
    // A view of θ is counted as the whole buffer, 56 of them twice.
    keeps_within("training step, RealNVP d = 32, 1,024 rows", &update_of(&text, &device), 6.0, 90.0, 0);
}

#[test]
fn an_energy_and_gradient_of_the_image_network() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(CIFAR, &device);
    let x = normals([4, 3072], &device);
    // Once, and kept: independent repeats would share kernels, and what is dropped before it is run is never run.
    let mut all = Last(None);
    let work = count(&device, 1, || all.push(model.energy_and_grad(x.clone())));
    let (energy, grad) = all.pop().expect("it has run");
    assert!(download(energy).iter().chain(&download(grad)).all(|v| v.is_finite()), "a launch failed");
    // One launch a layer each way, the last layer's both ways in one, and one for all weights. The packed weights, 22 MB, are counted
    // whole at each of the eight launches that read a part.
    keeps_within("(U, ∇U), CIFAR network, 4 walkers", &work, 10.0, 230.0, 0);
    for (kernel, launches) in [("PackKernel", 1), ("ForwardKernel", 4), ("TopKernel", 1), ("InputKernel", 4)]
    {
        assert_eq!(work.kernels.get(kernel), Some(&launches), "{kernel}: {work}");
    }
}

/// Two launches a layer more than the pass, which needs no gradient in x.
#[test]
fn the_weighted_gradient_of_the_image_network() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(CIFAR, &device);
    let (x, weights) = (normals([4, 3072], &device), upload(vec![0.25; 4], &device));
    let mut all = Last(None);
    let work =
        count(&device, 1, || all.push(model.weighted_param_grads(&[(x.clone(), weights.clone())]).grads));
    let grads = all.pop().expect("it has run");
    assert!(grads.into_iter().all(|grad| download(grad).iter().all(|v| v.is_finite())), "a launch failed");
    keeps_within("weighted gradient, CIFAR network, 4 walkers", &work, 19.0, 230.0, 0);
    for (kernel, launches) in [("InputKernel", 3), ("PartialKernel", 5), ("TotalKernel", 5)] {
        assert_eq!(work.kernels.get(kernel), Some(&launches), "{kernel}: {work}");
    }
}

/// The gradient of 4,096 data and 4,096 walkers with all energies; `pack` finds the buffer that the gradients are views of.
fn weighted_grads(metadata: &str, device: &Device) -> Work {
    let model = model(metadata, device);
    let dim = model.dim();
    let weights = upload(vec![1.0 / 4096.0; 4096], device);
    let terms = [1.0, -1.0].map(|sign| (normals([4096, dim], device), weights.clone().mul_scalar(sign)));
    device.sync().expect("the device works");
    let mut all = Last(None);
    let work = count(device, 1, || {
        let found = model.weighted_param_grads(&terms);
        all.push((pack(&found.grads), found));
    });
    let (flat, found) = all.pop().expect("it has run");
    let numbers = found.grads.into_iter().chain(found.energies).chain([flat]).flat_map(download);
    assert!(numbers.into_iter().all(|v| v.is_finite()), "a launch that failed is counted, too");
    work
}

#[test]
fn a_weighted_gradient() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    keeps_within("gradient in θ, MLP, 4,096 + 4,096", &weighted_grads(MLP, &device), 2.0, 2.5, 0);
    keeps_within("gradient in θ, mixture, 4,096 + 4,096", &weighted_grads(MIXTURE, &device), 2.0, 2.5, 0);
}

#[test]
fn an_energy_and_gradient_of_the_mixture() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(MIXTURE, &device);
    let x = normals([4096, 50], &device);
    let mut all = Last(None);
    let work = count(&device, 1, || all.push(model.energy_and_grad(x.clone())));
    let (energy, grad) = all.pop().expect("it has run");
    assert!(download(energy).iter().chain(&download(grad)).all(|v| v.is_finite()), "a launch failed");
    keeps_within("(U, ∇U), mixture, 4,096 walkers", &work, 1.0, 1.7, 0);
}

/// Three steps in one launch.
#[test]
fn a_chain_of_the_mixture() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(MIXTURE, &device);
    let mut walkers = Walkers::new(&model, normals([4096, 50], &device), 0.0);
    let mut step = 0;
    let work = count(&device, 4, || {
        let noise = |sub: u64| Noise { seed: 1, lane: 0, step: step + sub };
        walkers = Ula::new(0.01).steps(&model, &model, walkers.clone(), 3, &noise).0;
        step += 3;
    });
    assert!(walkers.summary().finite, "a launch that failed is counted, too");
    keeps_within("three steps of ULA, mixture, 4,096 walkers", &work, 1.0, 3.5, 0);
}

/// Four numbers of a population in one launch, and of one that a cube cannot hold in two.
#[test]
fn reductions() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    for (n, launches) in [(4096, 1.0), (100_000, 2.0)] {
        let x = upload(Stream::new(2, Purpose::Noise).normals(1, n), &device);
        let y = upload(Stream::new(3, Purpose::Noise).normals(1, n), &device);
        let several = [
            Reduction::Sum(x.clone()),
            Reduction::Max(y.clone()),
            Reduction::Dot(x.clone(), y.clone()),
            Reduction::Mean(y),
        ];
        let mut found = Last(None);
        let work = count(&device, 1, || found.push(reduce::all(&several)));
        assert!(download(found.pop().expect("it has run")).iter().all(|v| v.is_finite()));
        keeps_within(&format!("four reductions of {n}"), &work, launches, 1.0, 0);
    }
}

/// Packing the parameters is one launch; taking the buffer apart is none, nor is packing what is one already.
#[test]
fn flat_parameters() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(MLP, &device);
    let layout = Layout::of(&model.params());
    let mut all = Last(None);
    let work = count(&device, 1, || {
        let views = layout.views(&pack(model.theta()));
        all.push((pack(&views), views));
    });
    let (flat, views) = all.pop().expect("it has run");
    assert_eq!(views.into_iter().flat_map(download).sum::<f32>(), {
        let flat = download(flat);
        layout.ranges().flat_map(|(begin, len)| flat[begin..begin + len].to_vec()).sum::<f32>()
    });
    // The bytes of a view are counted as if the buffer were read: it is not.
    keeps_within("pack and views, MLP", &work, 1.0, 2.0, 0);
}

/// A population of `n` walkers of 2 coordinates with log-weights of standard deviation 2: ess is about 2 %.
fn population(n: usize, device: &Device) -> Walkers {
    let rows = normals([n, 2], device);
    let log_weights = Stream::new(2, Purpose::Noise).normals(1, n).iter().map(|z| 2.0 * z).collect();
    let log_weights = LogWeights::from_parts(upload(log_weights, device), Tensor::zeros([n], device));
    let energy = upload(Stream::new(4, Purpose::Noise).normals(1, n), device);
    let ancestor = Tensor::arange(0..n as i64, device);
    let (log_z, resamplings) = (Banked::new(vec![0.5], device), Counter::new(0, device));
    Walkers { position: rows.clone(), energy, energy_grad: rows, log_weights, ancestor, log_z, resamplings }
}

/// Statistics, decision, bank, ancestors, gather and weights: whether the walkers are due or not, the host waits for nothing.
#[test]
fn a_settled_population() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    for (n, weighed, settled, megabytes) in [(4_096, 2.0, 2.0, 0.5), (1 << 20, 2.0, 4.0, 110.0)] {
        let walkers = population(n, &device);
        let mut all = Last(None);
        let work = count(&device, 1, || all.push(walkers.weighed()));
        let (stats, weights) = all.pop().expect("it has run");
        let sum: f64 = download(weights).iter().map(|&w| f64::from(w)).sum();
        assert!(stats.read().finite && (sum - 1.0).abs() < 1e-5, "a launch failed: {sum}");
        keeps_within(&format!("statistics and weights, {n} walkers"), &work, weighed, megabytes, 0);
        for (threshold, due) in [(0.001, 0), (0.5, 1)] {
            let mut all = Last(None);
            let work = count(&device, 1, || {
                all.push(walkers.clone().settled(Scheme::Systematic, threshold, resampling()))
            });
            let (found, stats) = all.pop().expect("it has run");
            assert!(stats.stats.read().finite && found.resamplings.read() == due, "a launch failed");
            let what = format!("settled, {n} walkers, due: {due}");
            keeps_within(&what, &work, settled, megabytes, 0);
        }
    }
}

/// All repeats of an audit at once.
#[test]
fn settled_groups() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let walkers = population(16_000, &device);
    let banked = Banked::new(vec![0.0; 16], &device);
    let mut all = Last(None);
    let work = count(&device, 1, || {
        all.push(walkers.clone().settled_groups(banked.clone(), Scheme::Systematic, 0.5, resampling(), 1))
    });
    let (found, banked, _) = all.pop().expect("it has run");
    assert!(
        found.resamplings.read() == 1 && banked.values().iter().all(|&gain| gain > 0.5),
        "a launch failed"
    );
    keeps_within("16 groups of 1,000 walkers settled", &work, 2.0, 1.5, 0);
}

fn resampling() -> Stream {
    Stream::new(3, Purpose::Resampling).at(5).expect("small")
}

#[test]
fn a_resampling() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let n = 1 << 16;
    let log_weights = upload(Stream::new(2, Purpose::Noise).normals(1, n), &device);
    let rows = normals([n, 2], &device);
    let (mut update, mut all) = (0, Last(None));
    let work = count(&device, 1, || {
        let stream = Stream::new(3, Purpose::Resampling).at(update).expect("small");
        update += 1;
        let ancestors = resample(Scheme::Systematic, log_weights.clone(), stream);
        all.push(rows.clone().select(0, ancestors));
    });
    assert!(download(all.pop().expect("it has run")).iter().all(|v| v.is_finite()), "a launch failed");
    keeps_within("systematic resampling with the gather, 65,536 walkers", &work, 5.0, 2.0, 0);
}

/// The gradient of a RealNVP training step: θ packed, the chain there and back, the sums. The optimiser is not in it.
/// A launch for each pair of pages, and every row moved once.
#[test]
fn a_gather_across_pages() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let (n, dim, rows) = (4_096, 96, 1_500);
    let pages = Pages::new(normals([n, dim], &device).split(rows, 0));
    let ancestors = Tensor::arange(0..n as i64, &device).flip([0]);
    let mut last = None;
    let work = count(&device, 4, || last = Some(pages.select(&ancestors)));
    println!("gather across three pages: {work}");
    assert_eq!(work.kernels.keys().map(String::as_str).collect::<Vec<_>>(), ["GatherPageKernel"], "{work}");
    assert_eq!((work.dispatches(), work.reads, work.allocations), (9.0, 0, 0), "{work}");
}

#[test]
fn a_gradient_of_a_flow() {
    let _alone = alone();
    let Some(device) = gpu() else { return };
    let model = model(FLOW, &device);
    let terms = [(normals([1024, 32], &device), Tensor::full([1024], 1.0 / 1024.0, &device))];
    let mut all = Last(None);
    let work = count(&device, 1, || all.push(model.weighted_param_grads(&terms)));
    let found = all.pop().expect("it has run");
    assert!(found.grads.into_iter().flat_map(download).all(|v| v.is_finite()), "a launch failed");
    keeps_within("∂U/∂θ, RealNVP, 1,024 rows", &work, 6.0, 45.0, 0);
    // Where θ is one buffer already, two launches.
    let flat = pack(model.theta());
    let views = Layout::of(&model.params()).views(&flat);
    let model = model.with_theta(views);
    let mut all = Last(None);
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
    let mut all = Last(None);
    let work = count(&device, 1, || all.push(model.energy_and_grad(x.clone())));
    let (energy, grad) = all.pop().expect("it has run");
    assert!(download(energy).iter().chain(&download(grad)).all(|v| v.is_finite()), "a launch failed");
    keeps_within("(U, ∇U), RealNVP, 256 rows", &work, 1.0, 4.0, 0);
    let mut all = Last(None);
    let work =
        count(&device, 1, || all.push(model.flow().expect("a flow").forward(model.theta(), x.clone())));
    keeps_within("a draw, RealNVP, 256 rows", &work, 1.0, 4.0, 0);
}
