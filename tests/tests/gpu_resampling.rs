//! A population settled on the GPU path, where the device decides, against the processor, where the host does.
#![cfg(feature = "wgpu")]

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Counter, Pages, Scheme, Settled, Walkers, resample};
use ember_tests::{cpu, gpu};
use ember_train::training::trainer::Trainer;

const LOG_Z: f64 = -3.257_812_37;
const RESAMPLINGS: u64 = 41;

/// A population in host memory.
#[derive(Clone)]
struct Population {
    dim: usize,
    position: Vec<f32>,
    energy: Vec<f32>,
    grad: Vec<f32>,
    log_weights: Vec<f32>,
}

impl Population {
    fn new(n: usize, dim: usize, log_weights: Vec<f32>) -> Self {
        let normals = |purpose, columns| Stream::new(n as u64, purpose).normals(n, columns);
        Self {
            dim,
            position: normals(Purpose::Start, dim),
            energy: normals(Purpose::Init, 1),
            grad: normals(Purpose::Noise, dim),
            log_weights,
        }
    }

    fn count(&self) -> usize {
        self.energy.len()
    }

    fn on(&self, device: &Device) -> Walkers {
        let n = self.count();
        let rows =
            |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [n, self.dim]), device);
        // Walkers of an earlier resampling: names that are not their places.
        let names: Vec<i32> = (0..n).map(|i| (i / 2) as i32).collect();
        let lo: Vec<f32> = self.log_weights.iter().map(|a| a * 1e-9).collect();
        Walkers {
            position: rows(&self.position),
            energy: upload(self.energy.clone(), device),
            energy_grad: rows(&self.grad),
            log_weights: LogWeights::from_parts(upload(self.log_weights.clone(), device), upload(lo, device)),
            ancestor: Tensor::from_data(TensorData::new(names, [n]), device),
            log_z: Banked::new(vec![LOG_Z], device),
            resamplings: Counter::new(RESAMPLINGS, device),
        }
    }

    /// ess, `log_mean_exp` and mean energy in double precision.
    fn exact(&self) -> [f64; 3] {
        let a: Vec<f64> = self.log_weights.iter().map(|&a| f64::from(a)).collect();
        let max = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = a.iter().map(|a| (a - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let square: f64 = weights.iter().map(|w| w * w).sum();
        let energy: f64 = weights.iter().zip(&self.energy).map(|(w, u)| w * f64::from(*u)).sum();
        [sum * sum / square, (sum / a.len() as f64).ln() + max, energy / sum]
    }
}

/// Log-weights by name.
fn log_weights(kind: &str, n: usize) -> Vec<f32> {
    let normals = Stream::new(7 + n as u64, Purpose::Proposal).normals(n, 1);
    match kind {
        "equal" => vec![-1.75; n],
        "near" => normals.iter().map(|z| 0.3 * z).collect(),
        "wide" => normals.iter().map(|z| 4.0 * z - 900.0).collect(),
        "one" => (0..n).map(|i| if i == 2 * n / 3 { 80.0 } else { -40.0 }).collect(),
        "holes" => {
            normals.iter().enumerate().map(|(i, &z)| if i % 3 == 1 { f32::NEG_INFINITY } else { z }).collect()
        }
        _ => unreachable!("unknown kind of weights {kind}"),
    }
}

const KINDS: [&str; 5] = ["equal", "near", "wide", "one", "holes"];
/// Around the limits of what one cube does alone, and of a thread's share.
const SIZES: [usize; 10] = [1, 2, 255, 257, 4_096, 8_191, 8_193, 20_480, 70_001, (1 << 20) + 3];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn ancestors(walkers: &Walkers) -> Vec<i64> {
    walkers.ancestor.clone().into_data().iter::<i64>().collect()
}

fn stream() -> Stream {
    Stream::new(3, Purpose::Resampling).lane(2).at(77).expect("small")
}

#[track_caller]
fn near(what: &str, found: f64, exact: f64, tolerance: f64) {
    assert!((found - exact).abs() <= tolerance, "{what}: {found} for {exact}, tolerance {tolerance:e}");
}

/// Every field but weights and bank, bit for bit.
#[track_caller]
fn same_walkers(what: &str, a: &Walkers, b: &Walkers) {
    assert_eq!(ancestors(a), ancestors(b), "{what}: ancestors");
    let fields = |walkers: &Walkers| {
        [
            ("position", bits(&download(walkers.position.clone()))),
            ("gradient", bits(&download(walkers.energy_grad.clone()))),
            ("energy", bits(&download(walkers.energy.clone()))),
        ]
    };
    for ((name, a), (_, b)) in fields(a).into_iter().zip(fields(b)) {
        assert!(a == b, "{what}: {name}");
    }
}

#[test]
fn statistics_and_weights_are_those_of_double_precision() {
    let Some(device) = gpu() else { return };
    for n in SIZES {
        for (kind, dim) in KINDS.into_iter().zip([2, 1, 3, 2, 5]) {
            let population = Population::new(n, dim, log_weights(kind, n));
            if kind == "holes" && n < 2 {
                continue;
            }
            let walkers = population.on(&device);
            let (stats, weights) = walkers.weighed();
            let settled = walkers.settled(Scheme::Systematic, 0.0, stream()).1;
            let [ess, log_mean_exp, energy] = population.exact();
            let max = f64::from(population.log_weights.iter().copied().fold(f32::MIN, f32::max));
            // 2⁻²⁴ for every rounding of a tree of sums and of exp, whose argument is rounded too: some 30 of them.
            for summary in [stats.read(), settled.stats.clone().read()] {
                let what = format!("{kind}, {n} walkers");
                assert!(summary.finite, "{what}: {summary:?}");
                near(&format!("{what}: ess"), summary.ess, ess, 4e-6 * ess);
                let scale = max.abs() + (n as f64).ln() + 1.0;
                near(&format!("{what}: log_mean_exp"), summary.log_mean_exp, log_mean_exp, 3e-7 * scale);
                near(&format!("{what}: energy"), summary.energy, energy, 4e-6);
            }
            // Nobody was due: W of both, and of the walkers as they came.
            let before = settled.weights_before.clone();
            assert_eq!(settled.was_resampled(), None);
            for weights in [weights, settled.weights, before] {
                for (a, w) in population.log_weights.iter().zip(download(weights)) {
                    let exact = (f64::from(*a) - log_mean_exp).exp() / n as f64;
                    near(&format!("{kind}, {n} walkers: W"), f64::from(w), exact, 4e-6 * exact + 1e-37);
                }
            }
        }
    }
}

/// Weights, log-weights, bank and counter of a settled population.
fn compare(what: &str, population: &Population, due: bool, found: (Walkers, Settled), within: bool) {
    let (n, (walkers, settled)) = (population.count(), found);
    let weights = download(settled.weights.clone());
    let before = download(settled.weights_before.clone());
    let hi = download(walkers.log_weights.value());
    let lo = download(walkers.log_weights.compensation());
    assert_eq!(walkers.resamplings.read(), RESAMPLINGS + u64::from(due), "{what}: counter");
    let log_mean_exp = settled.stats.clone().read().log_mean_exp;
    let banked = if due && !within { LOG_Z + log_mean_exp } else { LOG_Z };
    near(&format!("{what}: bank"), walkers.log_z.value(), banked, 1e-12 * (1.0 + banked.abs()));
    if due {
        assert!(weights.iter().all(|&w| w == 1.0 / n as f32), "{what}: W");
        let level = if within { log_mean_exp as f32 } else { 0.0 };
        assert!(hi.iter().all(|&a| a == level) && lo.iter().all(|&a| a == 0.0), "{what}: log-weights");
        let sum: f64 = before.iter().map(|&w| f64::from(w)).sum();
        near(&format!("{what}: weights before"), sum, 1.0, 1e-6);
    } else {
        assert!(bits(&hi) == bits(&population.log_weights), "{what}: log-weights");
        assert_eq!(weights, before, "{what}: W");
    }
}

#[test]
fn the_settled_walkers_are_the_processor_s() {
    let Some(device) = gpu() else { return };
    for n in SIZES {
        for (kind, dim) in KINDS.into_iter().zip([2, 1, 3, 2, 5]) {
            if kind == "holes" && n < 2 {
                continue;
            }
            let population = Population::new(n, dim, log_weights(kind, n));
            let ess = population.exact()[0] / n as f64;
            for scheme in Scheme::ALL {
                if n > 100_000 && (kind != "wide" || *scheme == Scheme::Multinomial) {
                    continue;
                }
                for due in [false, true] {
                    let threshold = ess * if due { 1.001 } else { 0.999 };
                    let what = format!("{kind}, {n} walkers, {scheme:?}, due: {due}");
                    let within = n % 2 == 0;
                    let settle = |walkers: Walkers| match within {
                        true => walkers.settled_within(*scheme, threshold, stream()),
                        false => walkers.settled(*scheme, threshold, stream()),
                    };
                    let expected = settle(population.on(&cpu()));
                    assert_eq!(expected.1.was_resampled(), Some(due), "{what}: the processor's decision");
                    let found = settle(population.on(&device));
                    let came =
                        [&expected.1, &found.1].map(|settled| download(settled.weights_before.clone()));
                    for (host, device) in came[0].iter().zip(&came[1]) {
                        assert!(
                            (host - device).abs() <= 4e-6 * host + 1e-37,
                            "{what}: W as they came, {host} {device}"
                        );
                    }
                    same_walkers(&what, &expected.0, &found.0);
                    compare(&what, &population, due, found, within);
                }
            }
        }
    }
}

/// The weights of the walkers as they came are `W = softmax(A)`, resampled or not.
#[test]
fn the_weights_before_are_those_of_the_walkers_as_they_came() {
    let Some(device) = gpu() else { return };
    for n in [300, 9_001] {
        let population = Population::new(n, 1, log_weights("wide", n));
        let [_, log_mean_exp, _] = population.exact();
        for scheme in Scheme::ALL {
            let (_, settled) = population.on(&device).settled(*scheme, 1.0, stream());
            for (a, w) in population.log_weights.iter().zip(download(settled.weights_before)) {
                let exact = (f64::from(*a) - log_mean_exp).exp() / n as f64;
                near(&format!("{scheme:?}, {n} walkers: W"), f64::from(w), exact, 4e-6 * exact + 1e-37);
            }
        }
    }
}

/// The device takes the decision that the host would take from the ess that the device found, to the last bit of it.
#[test]
fn the_decision_is_the_host_s() {
    let Some(device) = gpu() else { return };
    let mut decisions = [0, 0];
    for n in [3, 257, 4_096, 9_001, 70_001] {
        let population = Population::new(n, 1, log_weights("near", n));
        let ess = population.on(&device).settled(Scheme::Systematic, 0.0, stream()).1.stats.read().ess;
        for step in [-1e-3, -1e-7, -6e-8, -1e-9, 0.0, 1e-9, 6e-8, 1e-7, 1e-3] {
            let threshold = ess / n as f64 * (1.0 + step);
            let due = ess < threshold * n as f64;
            decisions[usize::from(due)] += 1;
            let walkers = population.on(&device).settled(Scheme::Systematic, threshold, stream()).0;
            assert_eq!(walkers.resamplings.read() - RESAMPLINGS, u64::from(due), "{n}, {step}");
        }
    }
    assert!(decisions.iter().all(|&count| count > 10), "{decisions:?}");
}

#[test]
fn what_is_not_finite_is_seen_and_left_in_place() {
    let Some(device) = gpu() else { return };
    for n in [300, 9_001] {
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for field in ["log_weights", "energy", "grad"] {
                let mut population = Population::new(n, 3, log_weights("wide", n));
                match field {
                    "log_weights" => population.log_weights[n - 1] = value,
                    "energy" => population.energy[n / 2] = value,
                    _ => population.grad[3 * n - 1] = value,
                }
                // A log-weight of −∞ is a walker without weight, not an error.
                let fine = field == "log_weights" && value == f32::NEG_INFINITY;
                let what = format!("{value} in {field} of {n}");
                let walkers = population.on(&device);
                assert_eq!(walkers.summary().finite, fine, "{what}");
                let (walkers, settled) = walkers.settled(Scheme::Systematic, 1.0, stream());
                assert_eq!(settled.stats.read().finite, fine, "{what}");
                assert_eq!(walkers.resamplings.read() - RESAMPLINGS, u64::from(fine), "{what}");
                assert_eq!(
                    walkers.log_z.value() == Banked::new(vec![LOG_Z], &device).value(),
                    !fine,
                    "{what}"
                );
                if !fine {
                    same_walkers(&what, &population.on(&cpu()), &walkers);
                }
            }
        }
        let population = Population::new(n, 1, vec![f32::NEG_INFINITY; n]);
        assert!(!population.on(&device).summary().finite, "no weight at all");
        let (walkers, settled) = population.on(&device).settled(Scheme::Stratified, 1.0, stream());
        assert!(!settled.stats.read().finite && walkers.resamplings.read() == RESAMPLINGS);
    }
}

/// A bank holds more than `f32`: thousands of gains add up to what `f64` says; and a checkpoint's `f64` is the pair again.
#[test]
fn the_bank_and_the_counter_survive_a_file() {
    let Some(device) = gpu() else { return };
    let n = 64;
    let (mut total, mut start) = (1_234.567_891_234, Population::new(n, 1, vec![0.0; n]).on(&device));
    start.log_z = Banked::new(vec![total], &device);
    start.resamplings = Counter::new((1 << 20) - 100, &device);
    total = start.log_z.value();
    let mut walkers = start;
    for step in 0..300 {
        let gains: Vec<f32> = Stream::new(step, Purpose::Data).normals(n, 1);
        walkers.log_weights = LogWeights::from_parts(
            upload(gains.iter().map(|z| 3.0 * z - 7.3).collect(), &device),
            Tensor::zeros([n], &device),
        );
        let (next, settled) = walkers.settled(Scheme::Systematic, 1.0, stream());
        total += settled.stats.read().log_mean_exp;
        walkers = next;
        if step % 10 == 0 {
            let stored = (walkers.log_z.value(), walkers.resamplings.read());
            let packed = walkers.log_z.packed().expect("on a device");
            let restored = Banked::new(vec![stored.0], &device);
            let again = restored.packed().expect("on a device");
            assert_eq!(bits(&download(packed)), bits(&download(again)), "step {step}: {stored:?}");
            walkers.log_z = restored;
            walkers.resamplings = Counter::new(stored.1, &device);
        }
    }
    near("300 gains", walkers.log_z.value(), total, 1e-11 * total.abs());
    assert!(f64::from(total as f32) != total, "the sum must need more than f32");
    assert_eq!(walkers.resamplings.read(), (1 << 20) + 200, "the carry");
    assert!(!Banked::new(vec![f64::NAN], &device).is_known());
    assert!(Banked::new(vec![f64::NAN], &device).value().is_nan());
}

/// Groups are populations of their own: each as the processor has it, due or not.
#[test]
fn groups_are_settled_each_for_itself() {
    let Some(device) = gpu() else { return };
    for (groups, size) in [(1, 500), (5, 7), (4, 300), (3, 5_000), (16, 1_000)] {
        let n = groups * size;
        // Every other group is wide.
        let normals = Stream::new(size as u64, Purpose::Anneal).normals(n, 1);
        let spread = |i: usize| if (i / size).is_multiple_of(2) { 2.5 } else { 0.1 };
        let log_weights = normals.iter().enumerate().map(|(i, z)| spread(i) * z - 20.0).collect();
        let population = Population::new(n, 2, log_weights);
        let banks: Vec<f64> = (0..groups).map(|r| -1.5 * r as f64 + 0.123_456_789).collect();
        for scheme in Scheme::ALL {
            for threshold in [0.0, 0.7, 1.1] {
                let what = format!("{groups} × {size}, {scheme:?}, threshold {threshold}");
                let settle = |device: &Device| {
                    let banked = Banked::new(banks.clone(), device);
                    population.on(device).settled_groups(banked, *scheme, threshold, stream(), 9)
                };
                let (here, here_z, here_stats) = settle(&cpu());
                let (there, there_z, there_stats) = settle(&device);
                same_walkers(&what, &here, &there);
                let (a, b) = (download(here_stats), download(there_stats));
                assert_eq!((a.len(), b.len()), (2 * groups, 2 * groups));
                for (a, b) in a.iter().zip(&b) {
                    near(&what, f64::from(*b), f64::from(*a), 1e-5 * f64::from(a.abs()));
                }
                assert_eq!(here.resamplings.read(), there.resamplings.read(), "{what}");
                for (a, b) in here_z.values().into_iter().zip(there_z.values()) {
                    near(&what, b, a, 2e-5);
                }
                // A processor's zeros have signs.
                let values = |walkers: &Walkers| download(walkers.log_weights.value());
                assert!(values(&here) == values(&there), "{what}: log-weights");
                let due = b[..groups].iter().filter(|&&ess| f64::from(ess) < threshold * size as f64).count();
                let expected = if threshold == 0.0 {
                    0
                } else if threshold > 1.0 {
                    groups
                } else {
                    groups.div_ceil(2)
                };
                assert_eq!(due, expected, "{what}: the test's own groups");
            }
        }
    }
}

/// Rows gathered across pages are those of one tensor, to the bit: pages of one row, of all, and a last one that is not full.
#[test]
fn rows_of_pages() {
    for device in [Some(cpu()), gpu()].into_iter().flatten() {
        for (count, dim, rows) in [(1, 3, 1), (7, 1, 1), (100, 5, 100), (1_000, 3, 333), (5_000, 70, 2_048)] {
            let what = format!("[{count}, {dim}] in pages of {rows}");
            let all =
                upload(Stream::new(3, Purpose::Start).normals(count, dim), &device).reshape([count, dim]);
            let pages = || Pages::new(all.clone().split(rows, 0));
            let weights = upload(log_weights("wide", count), &device);
            let ancestors = resample(Scheme::Systematic, weights, stream());
            let found = pages().select(&ancestors);
            let expected = all.clone().select(0, ancestors.clone());
            assert_eq!(
                (found.count(), found.dim(), found.pages().len()),
                (count, dim, count.div_ceil(rows)),
                "{what}"
            );
            assert!(download(Tensor::cat(found.pages().to_vec(), 0)) == download(expected), "{what}");
            let plain = pages().select_reference(&ancestors);
            for (page, expected) in found.pages().iter().zip(plain.pages()) {
                assert!(download(page.clone()) == download(expected.clone()), "{what}");
            }
            // In any order, and from the pages as they were.
            let back = Tensor::arange(0..count as i64, &device).flip([0]);
            assert!(
                download(Tensor::cat(pages().select(&back).pages().to_vec(), 0))
                    == download(all.clone().select(0, back)),
                "{what}"
            );
        }
    }
    assert_eq!(Pages::rows_within(1 << 31, 3_072), 174_762);
    assert_eq!(Pages::rows_within(3, 10), 1);
}

const TRAINING: &str = r#"
seed = 5
steps = 100
dataset.means = [[2.0, 0.0], [-2.0, 0.0]]
dataset.test_size = 16
dataset.batch_size = 64
energy.hidden = [8]
walkers.count = 300
audit = { repeats = 4, walkers = 50, every = 1 }
kernel.step_size = 0.05
kernel.steps_per_update = 1
resampling = { ess_threshold = 1.0 }
optimizer.learning_rate = 0.02
"#;

/// Training that goes on from a checkpoint is the training that never stopped, banks and counters among it.
#[test]
fn a_resumed_run_is_the_same_run() {
    let Some(device) = gpu() else { return };
    let config = || ember_tests::configs::config(&ember_tests::configs::small(TRAINING));
    let state = |trainer: &Trainer| {
        let audit = trainer.audit.as_ref().expect("it has one");
        let of = |walkers: &Walkers| {
            [
                bits(&download(walkers.position.clone())),
                bits(&download(walkers.log_weights.value())),
                bits(&download(walkers.log_weights.compensation())),
                bits(&walkers.log_z.packed().map(download).expect("on a device")),
                bits(&walkers.resamplings.packed().map(download).expect("on a device")),
            ]
        };
        let banks = bits(&audit.log_z.packed().map(download).expect("on a device"));
        (of(&trainer.walkers), of(&audit.walkers), banks, ancestors(&trainer.walkers))
    };
    let mut trainer = Trainer::new(config(), &device).expect("it starts");
    let mut resumed = None;
    for step in 0..12 {
        if step == 6 {
            let saved = trainer.to_state("test");
            let text =
                serde_json::to_string(&saved.walkers.as_ref().expect("saved").log_z).expect("a number");
            let mut saved = saved;
            saved.walkers.as_mut().expect("saved").log_z = serde_json::from_str(&text).expect("a number");
            resumed =
                Some(Trainer::from_state(config(), &saved, Path::new("test"), &device).expect("its own"));
        }
        trainer.update(step % 2 == 0).expect("finite");
        if let Some(resumed) = &mut resumed {
            resumed.update(step % 2 == 0).expect("finite");
        }
    }
    assert!(trainer.walkers.resamplings.read() > 6, "the test must resample on both sides");
    assert!(trainer.walkers.log_z.value() != 0.0);
    assert!(state(&trainer) == state(&resumed.expect("at step 6")), "the resumed run is another");
}
