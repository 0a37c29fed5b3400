//! The image classifier, and the class frequencies of weighted walkers with their standard errors.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::evidence::Ensembles;
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Counter, Scheme, Walkers, resample};
use ember_tests::{assert_beyond_se, assert_within_se, cpu};
use ember_train::config::Config;
use ember_train::dataset::{Augmentation, Data, Dataset, Mnist, Rows, byte};
use ember_train::judging::classifier::frequencies::Population;
use ember_train::judging::classifier::{Classifier, Groups, cache, class_frequencies, train};
use ember_train::judging::eval_images::{Classes, held_out_energies, judge_classes};
use ember_train::training::noisy::Noisy;
use ember_train::view::denoise::denoised;

const SIDE: usize = 16;
const DIM: usize = SIDE * SIDE;
const NOISE: Augmentation = Augmentation { flip: false, noise: 0.3 };

/// Images of a bright blob: upper left (class 0) or lower right (class 1), its place jittered by up to two pixels.
fn blobs(labels: &[u32], lane: u32) -> Vec<f32> {
    let jitter = Stream::new(1, Purpose::Data).lane(lane).uniforms(labels.len(), 2);
    let image = |(&label, jitter): (&u32, &[f32])| {
        let at = |u: f32| if label == 0 { 3.0 + 4.0 * u } else { 9.0 + 4.0 * u };
        let (row, column) = (at(jitter[0]), at(jitter[1]));
        (0..DIM).map(move |i| {
            let (y, x) = ((i / SIDE) as f32 - row, (i % SIDE) as f32 - column);
            1.6 * (-(x * x + y * y) / 8.0).exp() - 0.8
        })
    };
    labels.iter().zip(jitter.chunks_exact(2)).flat_map(image).collect()
}

/// A training set with class 0 three times in four, as bytes.
fn blob_data() -> Data {
    let bytes = |labels: &[u32], lane| Rows::U8(blobs(labels, lane).into_iter().map(byte).collect());
    let train_labels = Stream::new(2, Purpose::Data).categorical(600, &[0.75, 0.25]);
    let test_labels = Stream::new(3, Purpose::Data).categorical(500, &[0.75, 0.25]);
    Data {
        shape: SampleShape::Image([1, SIDE, SIDE]),
        train: bytes(&train_labels, 0),
        train_labels,
        test: bytes(&test_labels, 1),
        test_labels,
        class_names: vec!["upper".to_owned(), "lower".to_owned()],
    }
}

fn bits(classifier: &Classifier) -> Vec<u32> {
    classifier.host_theta().into_iter().flatten().map(f32::to_bits).collect()
}

#[test]
fn blobs_are_told_apart_and_the_same_data_give_the_same_bits() {
    let data = blob_data();
    let first = train(&data, NOISE).expect("images with two classes");
    let accuracy = first.held_out().accuracy;
    assert!(accuracy.value > 0.97, "{accuracy:?}");
    assert_eq!(first.held_out().classes, ["upper", "lower"]);
    assert_eq!(first.held_out().count, 500);
    let again = train(&data, NOISE).expect("the same");
    assert_eq!(bits(&first), bits(&again));
    assert_eq!(first.held_out(), again.held_out());
    // A mirrored training set puts half of each class into the other's columns: other weights.
    let mirrored = train(&data, Augmentation { flip: true, ..NOISE }).expect("the same");
    assert_ne!(bits(&first), bits(&mirrored));
    assert!(mirrored.held_out().accuracy.value > 0.97, "rows still tell: {:?}", mirrored.held_out());
    // Labels without meaning cannot be learnt: the accuracy is measured, not assumed.
    let mut shuffled = data.clone();
    shuffled.test_labels.iter_mut().enumerate().for_each(|(i, label)| *label = u32::from(i % 2 == 0));
    let lost = train(&shuffled, NOISE).expect("the same").held_out().accuracy;
    assert_within_se(lost.value, 0.5, lost.standard_error, 4.0);
}

#[test]
fn what_has_no_classes_or_is_no_image_is_refused() {
    let data = blob_data();
    assert!(Classifier::fits(&data));
    let one_class = Data {
        train_labels: vec![0; 600],
        test_labels: vec![0; 500],
        class_names: Vec::new(),
        ..data.clone()
    };
    let flat = Data { shape: SampleShape::Flat(DIM), ..data.clone() };
    let small = Data { shape: SampleShape::Image([4, 8, 8]), ..data.clone() };
    let empty = Data { train: Rows::U8(Vec::new()), train_labels: Vec::new(), ..data };
    for (data, found) in [
        (one_class, "600 samples of shape [1, 16, 16] in 1"),
        (flat, "[256] in 2"),
        (small, "[4, 8, 8] in 2"),
        (empty, "0 samples"),
    ] {
        assert!(!Classifier::fits(&data));
        let error = train(&data, NOISE).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        let error = error.to_string();
        assert!(
            error.contains("at least 12 × 12 pixels in two or more classes") && error.contains(found),
            "{error}"
        );
    }
}

/// A classifier kept on disk comes back with its bits; a damaged file is replaced; a folder that cannot be is no failure.
#[test]
fn classifiers_are_kept_and_damaged_files_replaced() {
    let data = blob_data();
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("made/on/the/way");
    let cached = |folder: &Path| cache::cached(&data, NOISE, Some(folder)).expect("trained or read");
    let first = cached(&folder);
    let path = folder.join(cache::file_name(&data, NOISE));
    let written = fs::read(&path).expect("it is kept");
    assert_eq!(fs::read_dir(&folder).expect("readable").count(), 1, "nothing half-written is left");

    let modified = || fs::metadata(&path).and_then(|about| about.modified()).expect("a time");
    let before = modified();
    let again = cached(&folder);
    assert_eq!(bits(&first), bits(&again));
    assert_eq!(first.held_out(), again.held_out());
    assert_eq!(modified(), before, "read, not trained");

    // A flipped bit of a weight, of the metadata, a cut, an empty file.
    let flipped = |at: usize| {
        let mut bytes = written.clone();
        bytes[at] ^= 1;
        bytes
    };
    let accuracy = written.windows(8).position(|w| w == b"accuracy").expect("in the metadata");
    let digit = accuracy + written[accuracy..].iter().position(|&b| b == b'.').expect("a number") + 1;
    let damaged =
        [flipped(written.len() - 3), flipped(digit), written[..written.len() / 2].to_vec(), Vec::new()];
    for (case, bytes) in damaged.into_iter().enumerate() {
        fs::write(&path, bytes).expect("written");
        let again = cached(&folder);
        assert_eq!(bits(&first), bits(&again), "case {case}");
        assert_eq!(first.held_out(), again.held_out(), "case {case}");
        assert_eq!(fs::read(&path).expect("there"), written, "case {case}: replaced by a whole one");
    }

    // Other data, other noise: other files.
    let mut other = data.clone();
    other.test_labels[0] ^= 1;
    let names = [
        cache::file_name(&data, NOISE),
        cache::file_name(&other, NOISE),
        cache::file_name(&data, Augmentation { noise: 0.2, ..NOISE }),
        cache::file_name(&data, Augmentation { flip: true, ..NOISE }),
    ];
    for (i, name) in names.iter().enumerate() {
        assert!(
            name.starts_with("classifier-") && name.ends_with(".safetensors") && name.len() == 87,
            "{name}"
        );
        assert!(!names[..i].contains(name));
    }

    // A file where the folder should be: trained all the same.
    let blocked = scratch.path().join("blocked");
    fs::write(&blocked, "").expect("written");
    assert_eq!(bits(&first), bits(&cached(&blocked)));
}

/// Noisy blobs of classes drawn half and half, weighted so that the first has mass .8.
#[test]
fn weighted_frequencies_are_those_of_the_weighted_law() {
    const N: usize = 4_000;
    const REPEATS: usize = 40;
    let data = blob_data();
    let classifier = train(&data, NOISE).expect("images");
    let labels = Stream::new(5, Purpose::Sample).categorical(N, &[0.5, 0.5]);
    let mut position = blobs(&labels, 7);
    let noise = Stream::new(5, Purpose::Noise).normals(N, DIM);
    position.iter_mut().zip(&noise).for_each(|(x, xi)| *x += NOISE.noise as f32 * xi);
    // log(p/q) of the class, and a spread that is independent of it.
    let spread = Stream::new(6, Purpose::Noise).normals(N, 1);
    let log_weights: Vec<f32> =
        labels.iter().zip(&spread).map(|(&k, z)| [1.6f32, 0.4][k as usize].ln() + 0.5 * z).collect();
    let families: Vec<i64> = (0..N as i64).collect();
    let judged = |log_weights: &[f32], groups: Groups| {
        let population = Population::new(upload(log_weights.to_vec(), &cpu()), groups);
        class_frequencies(&classifier, data.train_fractions(), &position, &population, N, "walkers")
    };
    for groups in [Groups::Families(families), Groups::Repeats(REPEATS)] {
        let found = judged(&log_weights, groups.clone());
        for (k, mass) in [0.8, 0.2].into_iter().enumerate() {
            assert_within_se(found.value[k], mass, found.standard_error[k], 4.0);
            assert!(found.standard_error[k] < 0.015, "{found:?}");
        }
        assert!((found.value.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let exact = (0.8 - data.train_fractions()[0]).abs();
        assert_within_se(found.total_variation.value, exact, found.total_variation.standard_error, 4.0);
        let (confidence, held_out) = (found.confidence, found.confidence_held_out);
        let error = confidence.standard_error.hypot(held_out.standard_error);
        assert!((confidence.value - held_out.value).abs() < 4.0 * error + 0.005, "{found:?}");
        // The test of the test: without the weights the half and half shows.
        let ignored = judged(&[0.0; N], groups);
        assert_beyond_se(ignored.value[0], 0.8, ignored.standard_error[0], 10.0);
        assert_within_se(ignored.value[0], 0.5, ignored.standard_error[0], 4.0);
    }
    // What cannot be read gets a class all the same, with less confidence.
    let blank = Population::new(upload(vec![0.0; N], &cpu()), Groups::Families((0..N as i64).collect()));
    let grey: Vec<f32> = noise.iter().map(|xi| NOISE.noise as f32 * xi - 0.8).collect();
    let unread = class_frequencies(&classifier, data.train_fractions(), &grey, &blank, N, "walkers");
    assert!((unread.value.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(unread.confidence.value < unread.confidence_held_out.value - 0.02, "{unread:?}");
    let json = serde_json::to_value(&unread).expect("JSON");
    assert_eq!(json["classes"], serde_json::json!(["upper", "lower"]));
    assert!(json.get("repeats").is_none());
}

/// Weighted draws, resampled, judged: the interval over families covers; one that takes copies for independent does not.
#[test]
fn the_standard_error_over_families_covers() {
    const N: usize = 500;
    const RUNS: u32 = 400;
    const MASS: f64 = 0.3;
    for scheme in [Scheme::Multinomial, Scheme::Systematic] {
        let (mut covered, mut naive) = (0, 0);
        for run in 0..RUNS {
            // y is 1 with odds e^a : 1 tilted away, so that the weights matter: the weighted mass is MASS.
            let y = Stream::new(11, Purpose::Start).lane(run).categorical(N, &[0.5, 0.5]);
            let spread = Stream::new(11, Purpose::Noise).lane(run).normals(N, 1);
            let mass = [1.0 - MASS, MASS];
            let log_weights: Vec<f32> =
                y.iter().zip(&spread).map(|(&y, z)| (mass[y as usize] as f32).ln() + z).collect();
            let stream = Stream::new(11, Purpose::Resampling).lane(run);
            let ancestors = resample(scheme, upload(log_weights, &cpu()), stream);
            let ancestors: Vec<i64> = ancestors.into_data().iter::<i64>().collect();
            // New weights after the resampling, as an update earns them; they depend on the family and on the walker.
            let fresh = Stream::new(12, Purpose::Noise).lane(run).normals(N, 1);
            let log_weights: Vec<f32> = fresh.iter().map(|z| 0.3 * z).collect();
            let value = |i: usize| f64::from(y[ancestors[i] as usize]);
            let interval = |families: Vec<i64>| {
                let population =
                    Population::new(upload(log_weights.clone(), &cpu()), Groups::Families(families));
                let mean = population.mean(value);
                u32::from((mean.value - MASS).abs() < 1.96 * mean.standard_error)
            };
            covered += interval(ancestors.clone());
            naive += interval((0..N as i64).collect());
        }
        let share = |count: u32| f64::from(count) / f64::from(RUNS);
        eprintln!(
            "{scheme:?}: families cover {:.3}, copies taken for independent {:.3}",
            share(covered),
            share(naive)
        );
        assert!((0.92..=0.98).contains(&share(covered)), "{scheme:?}: {covered} of {RUNS}");
        assert!(share(naive) < 0.85, "{scheme:?}: {naive} of {RUNS}");
    }
}

#[test]
fn one_family_has_no_standard_error() {
    let population = Population::new(upload(vec![0.0; 4], &cpu()), Groups::Families(vec![7; 4]));
    let mean = population.mean(|i| i as f64);
    assert_eq!(mean.value, 1.5);
    assert!(mean.standard_error.is_nan());
    // Two families of two, by hand: e = ∓.5, s.e.² = 2 (.25 + .25).
    let population = Population::new(upload(vec![0.0; 4], &cpu()), Groups::Families(vec![7, 7, 2, 2]));
    let mean = population.mean(|i| i as f64);
    assert!((mean.standard_error - 1.0).abs() < 1e-6, "{mean:?}");
    // Two repeats: means .5 and 2.5, s/√2 = 1.
    let mean = Population::new(upload(vec![0.0; 4], &cpu()), Groups::Repeats(2)).mean(|i| i as f64);
    assert!((mean.value - 1.5).abs() < 1e-6 && (mean.standard_error - 1.0).abs() < 1e-6, "{mean:?}");
}

fn mixture(text: &str) -> EnergyModel {
    let spec = EnergySpec::from_metadata(text).expect("a valid energy");
    EnergyModel::init(spec, 3, &cpu()).expect("it fits")
}

/// `x ~ Σ_k π_k N(m_k, (1 − σ²) I)`, `y = x + σ ξ`: the noisy law is a unit-covariance mixture, whose posterior mean is
/// `Σ_k r_k(y) [m_k + (1 − σ²)(y − m_k)]`.
#[test]
fn denoising_gives_the_posterior_mean() {
    const SIGMA: f64 = 0.6;
    const N: usize = 200;
    for means in [vec![[1.5, -0.5, 0.0]], vec![[-1.0, 0.5, 0.0], [1.2, 0.0, 0.3]]] {
        let model = mixture(&format!("kind = \"gaussian_mixture\"\ndim = 3\nmeans = {means:?}\n"));
        let noisy = Stream::new(8, Purpose::Data).normals(N, 3);
        let y = Tensor::from_data(TensorData::new(noisy.clone(), [N, 3]), &cpu());
        let clean = download(denoised(&model, y.clone(), SIGMA));
        for (y, found) in noisy.chunks_exact(3).zip(clean.chunks_exact(3)) {
            let square =
                |m: &[f64; 3]| -> f64 { m.iter().zip(y).map(|(m, &y)| (f64::from(y) - m).powi(2)).sum() };
            let r: Vec<f64> = means.iter().map(|m| (-0.5 * square(m)).exp()).collect();
            let total: f64 = r.iter().sum();
            for j in 0..3 {
                let mode = |m: &[f64; 3]| m[j] + (1.0 - SIGMA * SIGMA) * (f64::from(y[j]) - m[j]);
                let exact: f64 = means.iter().zip(&r).map(|(m, r)| r / total * mode(m)).sum();
                assert!((f64::from(found[j]) - exact).abs() < 1e-5, "{} is not {exact}", found[j]);
            }
        }
        assert_eq!(download(denoised(&model, y, 0.0)), noisy);
    }
}

/// Held-out energies: block by block the same as at once, on the dequantised and noisy law.
#[test]
fn held_out_energies_are_of_the_noisy_law() {
    let labels = vec![0; 700];
    let clean = blobs(&labels, 9);
    let data = Data {
        test: Rows::U8(clean.iter().copied().map(byte).collect()),
        test_labels: labels,
        ..blob_data()
    };
    let text =
        "kind = \"conv\"\nshape = [1, 16, 16]\nlayers = [{ out = 1, kernel = 16 }]\nconfinement = 1.0\n";
    // The last layer starts at zero: U = ½ |x|².
    let model = mixture(text);
    for std in [0.0, 0.3] {
        let u = held_out_energies(&model, &data, std);
        let x = Noisy::held_out(std).rows(&data.test, DIM, 0..700);
        let at_once = Tensor::from_data(TensorData::new(x.clone(), [700, DIM]), &cpu());
        let at_once = download(model.energy(at_once));
        assert_eq!(u.len(), 700);
        for (u, at_once) in u.iter().zip(&at_once) {
            assert!((u - f64::from(*at_once)).abs() < 1e-4 * u.abs(), "{u} {at_once}");
        }
        // E|y|² = |x|² + d (σ² + w²/12), x the centres of the bins and w = 2/256 their width.
        let centres = data.test.values();
        let gaps: Vec<f64> = u
            .iter()
            .zip(centres.chunks_exact(DIM))
            .map(|(u, x)| 2.0 * u - x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>())
            .collect();
        let (mean, error) = ember_tests::mean_se(&gaps);
        let exact = DIM as f64 * (std * std + (2.0f64 / 256.0).powi(2) / 12.0);
        assert_within_se(mean, exact, error + 1e-4, 4.0);
        let rest: f32 = x.iter().zip(&clean).map(|(y, x)| (y - x).powi(2)).sum::<f32>() / x.len() as f32;
        assert!((f64::from(rest).sqrt() - std).abs() < 0.01, "{rest}");
    }
}

/// A run on samples of 256 coordinates; only its walkers and objective matter here.
fn config(changes: &str) -> Config {
    let text = format!(
        r#"
        steps = 1
        {changes}
        [dataset]
        kind = "gaussian_mixture"
        dim = {DIM}
        means = [[0.0]]
        weights = [1.0]
        train_size = 10
        test_size = 10
        [energy]
        kind = "mlp"
        hidden = [2]
        confinement = 1.0
        [kernel]
        kind = "ula"
        step_size = 0.1
        [optimizer]
        kind = "sgd"
        learning_rate = 0.1
        "#
    );
    Config::from_toml(&text, "test").unwrap_or_else(|error| panic!("{error}"))
}

/// Blobs of the given classes as walkers with equal weights.
fn blob_walkers(labels: &[u32], ancestors: Vec<i32>) -> Walkers {
    let n = labels.len();
    let rows = |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [n, DIM]), &cpu());
    let zeros = upload(vec![0.0; n], &cpu());
    Walkers {
        position: rows(blobs(labels, 3)),
        energy: zeros.clone(),
        energy_grad: rows(vec![0.0; n * DIM]),
        log_weights: LogWeights::zeros(&zeros),
        ancestor: Tensor::from_data(TensorData::new(ancestors, [n]), &cpu()),
        log_z: Banked::new(vec![0.0], &cpu()),
        resamplings: Counter::new(0, &cpu()),
    }
}

/// An audit comes first, then the training walkers, then an SMC's; walkers from the data are refused.
#[test]
fn frequencies_come_from_walkers_that_can_tell() {
    let data = blob_data();
    let scratch = tempfile::tempdir().expect("a folder");
    let upper = blob_walkers(&[0; 80], (0..80).map(|i| i / 2).collect());
    let half: Vec<u32> = (0..80).map(|i| i % 2).collect();
    let half = Ensembles::new(blob_walkers(&half, (0..80).collect()), 4, 1);
    let (audit, smc) = ((half.clone(), "audit"), (half, "smc"));
    let judged =
        |config: &Config, independent: Option<&(Ensembles, &'static str)>, walkers: Option<&Walkers>| {
            judge_classes(config, &data, 0.0, independent, walkers, Some(scratch.path()))
                .expect("images with classes")
        };
    let found = |classes: Classes| match classes {
        Classes::Found { found, model } => (*found, model.map(|model| (model.method, model.value))),
        other => panic!("{other:?}"),
    };
    let models = |independent: Option<_>| independent.map(|_| ("smc", vec![0.5, 0.5]));
    let weighted = "objective = { kind = \"jarzynski\" }\nwalkers = { count = 80 }";
    let unweighted = "objective = { kind = \"persistent_cd\" }\nwalkers = { count = 80, init = \"normal\" }";
    let from_data = "objective = { kind = \"persistent_cd\" }\nwalkers = { count = 80, init = \"data\" }";
    let restarted =
        "objective = { kind = \"contrastive_divergence\" }\nwalkers = { count = 80, init = \"normal\" }";

    for text in [weighted, unweighted, from_data, restarted] {
        let (got, model) = found(judged(&config(text), Some(&audit), Some(&upper)));
        assert_eq!(model, None, "an audit's are the model's");
        assert_eq!(
            (got.method, got.repeats, got.value.clone()),
            ("audit", Some(4), vec![0.5, 0.5]),
            "{text}"
        );
        assert_eq!(got.distinct_ancestors, 80);
        assert_eq!(got.caveat, "modes that no repeat visits are not counted");
    }
    for (text, words) in [(weighted, "families of ancestors"), (unweighted, "gives the walkers no weights")] {
        for independent in [None, Some(&smc)] {
            let (got, model) = found(judged(&config(text), independent, Some(&upper)));
            assert_eq!(model, models(independent));
            assert_eq!(
                (got.method, got.repeats, got.value.clone()),
                ("walkers", None, vec![1.0, 0.0]),
                "{text}"
            );
            assert_eq!(got.distinct_ancestors, 40);
            assert!(got.caveat.contains(words) && !got.caveat.contains("too few"), "{}", got.caveat);
        }
    }
    let few = blob_walkers(&[0; 80], (0..80).map(|i| i / 10).collect());
    let (got, _) = found(judged(&config(weighted), None, Some(&few)));
    assert!(got.caveat.contains("of which 8 are left"), "{}", got.caveat);
    for text in [from_data, restarted] {
        assert_eq!(found(judged(&config(text), Some(&smc), Some(&upper))).0.method, "smc");
        let Classes::Withheld(why) = judged(&config(text), None, Some(&upper)) else { panic!("{text}") };
        assert!(why.contains("started at the data"), "{why}");
    }
    assert_eq!(judged(&config(weighted), None, None), Classes::Withheld("there are no walkers"));
    let vectors = Data { shape: SampleShape::Flat(DIM), ..data.clone() };
    let none = judge_classes(&config(weighted), &vectors, 0.0, Some(&audit), None, None).expect("no images");
    assert_eq!(none, Classes::DoNotApply);
}

/// Digits 2, 3 and 6 as in Carbone et al. 2023: the first 5,600, 2,800 and 1,400 of each, all of the held-out ones.
fn digits(dir: PathBuf) -> Data {
    let classes = Some(vec![2, 3, 6]);
    let counts = Some(vec![5_600, 2_800, 1_400]);
    let mnist =
        Mnist { dir, classes, counts, batch_size: 128, flip: false, noise: NOISE.noise, binarise: None };
    mnist.generate(0).expect("the official files")
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // Fields 14 and 15 of the whole line, in hundredths of a second.
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// Run alone for the CPU figure: other tests of this file share the process.
#[test]
fn mnist_digits_are_read() {
    let Some(folder) = std::env::var_os("EMBER_DATA").map(PathBuf::from) else {
        eprintln!("skipped: EMBER_DATA is not set");
        return;
    };
    let data = digits(folder.join("mnist"));
    assert_eq!(data.train_labels.len(), 9_800);
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let classifier = train(&data, NOISE).expect("images");
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let held = classifier.held_out();
    eprintln!(
        "digits 2, 3, 6, noise .3: accuracy {:.4} ± {:.4} on {} held-out images, confidence {:.4}; {cpu:.1} CPU-seconds, {wall:.1} s",
        held.accuracy.value, held.accuracy.standard_error, held.count, held.confidence.value
    );
    assert!(held.accuracy.value >= 0.98, "{held:?}");
}
