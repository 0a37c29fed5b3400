//! The feature network is PyTorch's, and the distances of features are what they should be. `golden/README.md` says how the
//! reference features were made.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, gpu, mean_se};
use ember_train::dataset::{Rows, pixel};
use ember_train::judging::features::{
    FEATURES, FeatureNetwork, FeatureOptions, Moments, clean, frechet, judge, kernel_distance, units,
};
use ember_train::store::tensor_file::{NamedTensor, TensorFile, Values};

/// Of the largest reference feature.
const TOLERANCE: f32 = 1e-3;

/// `count` numbers in `[0, 1)`: FNV-1a of the name, then MurmurHash3's finaliser of `hash + 0x9E3779B9 i` (`make_inception.py`).
fn uniform(name: &str, count: usize) -> Vec<f32> {
    let seed =
        name.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let number = |i: usize| {
        let mut x = (i as u32).wrapping_mul(0x9E37_79B9).wrapping_add(seed);
        x = (x ^ x >> 16).wrapping_mul(0x85EB_CA6B);
        x = (x ^ x >> 13).wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        (x >> 8) as f32 * (-24f32).exp2()
    };
    (0..count).map(number).collect()
}

fn weight((name, shape): (String, Vec<usize>)) -> NamedTensor {
    let mut values = uniform(&name, shape.iter().product());
    if name.ends_with("conv.weight") {
        let scale = (24.0 / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
        values.iter_mut().for_each(|u| *u = (*u - 0.5) * scale);
    } else if name.ends_with("bn.weight") || name.ends_with("bn.running_var") {
        values.iter_mut().for_each(|u| *u = 0.75 + *u * 0.5);
    } else {
        values.iter_mut().for_each(|u| *u = (*u - 0.5) * 0.2);
    }
    NamedTensor { name, shape, values: Values::F32(values) }
}

fn images(case: &str, [n, c, h, w]: [usize; 4]) -> Vec<u8> {
    let [rows, columns] = [h.div_ceil(4), w.div_ceil(4)];
    let coarse = uniform(&format!("coarse.{case}"), n * c * rows * columns);
    let fine = uniform(&format!("fine.{case}"), n * c * h * w);
    let value = |i: usize| {
        let (x, y, plane) = (i % w, i / w % h, i / w / h);
        (coarse[(plane * rows + y / 4) * columns + x / 4] * 200.0 + fine[i] * 55.0) as u8
    };
    (0..n * c * h * w).map(value).collect()
}

/// A network in a scratch file, after `change`.
fn network(device: &Device, change: impl Fn(&mut NamedTensor)) -> FeatureNetwork {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("inception.safetensors");
    let mut tensors: Vec<NamedTensor> = units().iter().flat_map(|unit| unit.tensors()).map(weight).collect();
    tensors.iter_mut().for_each(change);
    // What PyTorch's file has besides.
    let count = Values::I64(vec![0]);
    tensors.push(NamedTensor {
        name: "Conv2d_1a_3x3.bn.num_batches_tracked".into(),
        shape: vec![],
        values: count,
    });
    tensors.push(NamedTensor { name: "fc.bias".into(), shape: vec![2], values: Values::F32(vec![0.0; 2]) });
    TensorFile { tensors, ..TensorFile::default() }.write(&path).expect("a weight file");
    FeatureNetwork::read(&path, device).expect("a network")
}

fn shared() -> &'static FeatureNetwork {
    static SHARED: OnceLock<FeatureNetwork> = OnceLock::new();
    SHARED.get_or_init(|| network(&cpu(), |_| {}))
}

fn golden(case: &str) -> NamedTensor {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inception_pytorch.safetensors");
    TensorFile::read(&path).expect("a golden file").take(&format!("features.{case}")).expect("features")
}

/// `max |difference| / max |reference|` of a case's features.
fn difference(network: &FeatureNetwork, case: &str, [n, c, h, w]: [usize; 4]) -> f32 {
    let found = network.features(&images(case, [n, c, h, w]), [c, h, w], case).expect("features");
    let reference = golden(case);
    assert_eq!(reference.shape, [n, FEATURES]);
    let Values::F32(reference) = reference.values else { panic!("floats") };
    assert_eq!(found.len(), reference.len());
    let largest = reference.iter().copied().fold(0.0, f32::max);
    // Neither vanished nor all alike.
    for row in reference.chunks_exact(FEATURES) {
        let mean = row.iter().sum::<f32>() / FEATURES as f32;
        let spread = (row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / FEATURES as f32).sqrt();
        assert!(largest < 100.0 && spread > 0.1 * largest, "largest {largest}, spread {spread}");
    }
    found.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn the_network_has_the_size_it_should() {
    let units = units();
    assert_eq!(units.len(), 94);
    // torchvision's 27,161,264 less AuxLogits (3,326,696) and fc (2,049,000); running statistics are no parameters.
    let parameters: usize =
        units.iter().map(|unit| unit.shape.iter().product::<usize>() + 2 * unit.shape[0]).sum();
    assert_eq!(parameters, 27_161_264 - 3_326_696 - 2_049_000);
}

#[test]
fn features_agree_with_pytorch() {
    // Colour and not square; one channel, repeated; larger than the network's input.
    for (case, shape) in [("colour", [2, 3, 32, 36]), ("grey", [1, 1, 28, 28]), ("large", [1, 3, 310, 40])] {
        let off = difference(shared(), case, shape);
        println!("{case}: {off:.1e}");
        assert!(off <= TOLERANCE, "{case}: off by {off:.2e}");
    }
}

#[test]
fn features_on_the_gpu_path_agree_with_pytorch() {
    let Some(device) = gpu() else { return };
    let off = difference(&network(&device, |_| {}), "grey", [1, 1, 28, 28]);
    println!("grey: {off:.1e}");
    assert!(off <= TOLERANCE, "off by {off:.2e}");
}

/// The tolerance sees one normalisation of 94 that is off by 10 %.
#[test]
fn a_wrong_normalisation_is_seen() {
    for name in ["Mixed_6c.branch7x7_2.bn.weight", "Mixed_7c.branch_pool.bn.running_var"] {
        let changed = network(&cpu(), |tensor| {
            if tensor.name == name {
                let Values::F32(values) = &mut tensor.values else { panic!("floats") };
                values.iter_mut().for_each(|x| *x *= 1.1);
            }
        });
        let off = difference(&changed, "grey", [1, 1, 28, 28]);
        println!("{name}: {off:.1e}");
        assert!(off > TOLERANCE, "{name}: {off:.2e} goes unseen");
    }
}

#[test]
fn a_bad_file_is_named() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("bad.safetensors");
    let first = || units()[0].tensors().map(weight);
    let fails = |tensors: Vec<NamedTensor>, words: &[&str]| {
        TensorFile { tensors, ..TensorFile::default() }.write(&path).expect("a file");
        let error = FeatureNetwork::read(&path, &cpu()).expect_err("a bad file");
        assert_eq!(error.exit_code(), 2);
        for word in ["bad.safetensors"].iter().chain(words) {
            assert!(error.to_string().contains(word), "no `{word}` in: {error}");
        }
    };
    fails(vec![], &["`Conv2d_1a_3x3.conv.weight` is missing", "[32, 3, 3, 3]", "pytorch-fid"]);
    fails(first()[..2].to_vec(), &["`Conv2d_1a_3x3.bn.bias` is missing", "shape [32]"]);
    fails(first().to_vec(), &["`Conv2d_2a_3x3.conv.weight` is missing", "[32, 32, 3, 3]"]);
    let wrong = NamedTensor { shape: vec![3, 32, 3, 3], ..first()[0].clone() };
    fails(vec![wrong], &["`Conv2d_1a_3x3.conv.weight`", "[3, 32, 3, 3] found", "[32, 3, 3, 3] was expected"]);
    let integers = NamedTensor { values: Values::I64(vec![1; 864]), ..first()[0].clone() };
    fails(vec![integers], &["`Conv2d_1a_3x3.conv.weight`", "I64", "F32 was expected"]);
    let spoilt = |tensor: usize, value: f32| {
        let mut tensors = first().to_vec();
        let Values::F32(values) = &mut tensors[tensor].values else { panic!("floats") };
        values[5] = value;
        tensors
    };
    fails(spoilt(2, f32::NAN), &["`Conv2d_1a_3x3.bn.bias`", "element 5 is NaN", "finite"]);
    fails(spoilt(4, -0.5), &["`Conv2d_1a_3x3.bn.running_var`", "-0.5", "channel 5", "negative"]);
    std::fs::write(&path, b"PK\x03\x04 a PyTorch archive, not safetensors").expect("a file");
    let error = FeatureNetwork::read(&path, &cpu()).expect_err("not safetensors");
    assert!(error.exit_code() == 2 && error.to_string().contains("not a safetensors file"), "{error}");
    let error = FeatureNetwork::read(&folder.path().join("none"), &cpu()).expect_err("no file");
    assert!(error.exit_code() == 2 && error.to_string().contains("none"), "{error}");
}

/// From samples and bytes to the figures, through the whole network.
#[test]
fn judging_states_what_it_compared() {
    let (network, shape) = (shared(), [1, 8, 8]);
    let reference = images("reference", [10, 1, 8, 8]);
    let options = FeatureOptions {
        samples: 10,
        subset_size: Some(3),
        seed: 5,
        reference: "the training data (test)".to_owned(),
        treatment: "as they are".to_owned(),
    };
    let rows = Rows::U8(reference.clone());
    // The reference itself, as coordinates: the same images once rounded, in another order.
    let itself: Vec<f32> = reference.iter().map(|&byte| pixel(byte, 0.25)).collect();
    let same = judge(network, &itself, shape, &rows, &options).expect("distances");
    assert_eq!((same.sample_count, same.distinct_samples, same.reference_count), (10, 10, 10));
    assert!(same.fid.abs() < 1e-6, "FID of a set with itself: {}", same.fid);
    // Other images, far outside the range, two of them alike.
    let mut other: Vec<f32> = uniform("other", 6 * 64).into_iter().map(|u| 6.0 * u - 3.0).collect();
    other.copy_within(..64, 64);
    let far = judge(network, &other, shape, &Rows::F32(itself), &options).expect("distances");
    assert_eq!((far.sample_count, far.distinct_samples, far.reference_count), (6, 5, 10));
    assert!(far.fid > 1.0 && far.kid.value > 4.0 * far.kid.standard_error, "{far:?}");
    assert_eq!((far.kid_subsets, far.kid_subset_size), (2, 3));
    let json = serde_json::to_value(&far).expect("JSON");
    for key in
        ["fid", "kid", "reference", "reference_count", "sample_count", "pixel_range", "network", "caveat"]
    {
        assert!(!json[key].is_null(), "{key} is missing: {json}");
    }
    for words in ["6 images do not span 2048 features", "50000", "1 samples repeat another"] {
        assert!(far.caveat.contains(words), "{}", far.caveat);
    }
    assert!(far.network.contains("inception.safetensors, sha256 "), "{}", far.network);
    assert!(
        far.table().contains("1, repeated to 3") && far.table().contains("against 10 of"),
        "{}",
        far.table()
    );
    for (samples, shape) in [(&[0.0; 128][..], [2, 8, 8]), (&[0.0; 64], [1, 8, 8])] {
        assert_eq!(judge(network, samples, shape, &rows, &options).expect_err("too few").exit_code(), 2);
    }
    assert_eq!(network.features(&[0; 128], [2, 8, 8], "two").expect_err("two channels").exit_code(), 2);
}

/// `tr (C₁^½ C₂ C₁^½)^½ = √(tr C₁C₂ + 2 √(det C₁ det C₂))` in two dimensions.
#[test]
fn fid_of_known_moments_is_exact() {
    let (a, b) = ([2.0, 0.6, 0.6, 1.0], [1.0, -0.3, -0.3, 3.0]);
    let fid = |a: &[f64], b: &[f64]| {
        let a = Moments::new(vec![0.5, -1.0], a).expect("moments");
        frechet(&a, &Moments::new(vec![0.0, 1.0], b).expect("moments")).expect("FID")
    };
    let exact = exact_fid(&a, &b) + 0.25 + 4.0;
    assert!((fid(&a, &b) - exact).abs() < 1e-12 && (fid(&b, &a) - exact).abs() < 1e-12);
    assert!((fid(&a, &a) - 4.25).abs() < 1e-12);
    // Rank 1 beside full rank.
    let thin = [1.0, 2.0, 2.0, 4.0];
    assert!((fid(&thin, &b) - exact_fid(&thin, &b) - 4.25).abs() < 1e-7);
}

fn exact_fid(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let det = |m: &[f64; 4]| m[0] * m[3] - m[1] * m[2];
    let trace = a[0] * b[0] + a[1] * b[2] + a[2] * b[1] + a[3] * b[3];
    a[0] + a[3] + b[0] + b[3] - 2.0 * (trace + 2.0 * (det(a) * det(b)).sqrt()).sqrt()
}

/// Fewer samples than dimensions, and more: the covariance written out gives the same.
#[test]
fn fid_of_samples_is_that_of_their_moments() {
    for (n, d) in [(12, 20), (90, 7)] {
        let stream = Stream::new(n as u64, Purpose::Data);
        let (x, y) = (stream.normals(n, d), stream.lane(1).uniforms(n, d));
        let moments = |x: &[f32]| Moments::of(x, d).expect("moments");
        let written_out = |x: &[f32]| {
            let mean = |j: usize| x.chunks(d).map(|row| f64::from(row[j])).sum::<f64>() / n as f64;
            let mean: Vec<f64> = (0..d).map(mean).collect();
            let entry = |i: usize, j: usize| {
                let of = |row: &[f32]| (f64::from(row[i]) - mean[i]) * (f64::from(row[j]) - mean[j]);
                x.chunks(d).map(of).sum::<f64>() / (n - 1) as f64
            };
            let covariance: Vec<f64> = (0..d * d).map(|k| entry(k / d, k % d)).collect();
            Moments::new(mean, &covariance).expect("moments")
        };
        let found = frechet(&moments(&x), &moments(&y)).expect("FID");
        let expected = frechet(&written_out(&x), &written_out(&y)).expect("FID");
        assert!(found > 1.0 && (found - expected).abs() < 1e-6 * expected, "{found} {expected}");
        let itself = frechet(&moments(&x), &moments(&x)).expect("FID");
        assert!(itself.abs() < 1e-9, "{itself}");
    }
}

/// 16 samples of 4,000 from two Gaussians: the bias, of order 1/n, is far below a standard error.
#[test]
fn fid_of_gaussian_samples_is_the_closed_form() {
    // x = A z has covariance A Aᵀ.
    let (a, b) = ([1.0, 0.0, 0.6, 0.8], [0.7, 0.0, -0.5, 1.2]);
    let square = |m: &[f32; 4]| {
        let m = m.map(f64::from);
        let off = m[0] * m[2];
        [m[0] * m[0], off, off, m[2] * m[2] + m[3] * m[3]]
    };
    let draw = |m: &[f32; 4], shift: f32, lane: u32| -> Vec<f32> {
        let z = Stream::new(11, Purpose::Data).lane(lane).normals(4_000, 2);
        z.chunks(2).flat_map(|z| [m[0] * z[0] + shift, m[2] * z[0] + m[3] * z[1]]).collect()
    };
    let fid = |lane: u32| {
        let x = Moments::of(&draw(&a, 0.0, 2 * lane), 2).expect("moments");
        frechet(&x, &Moments::of(&draw(&b, 0.5, 2 * lane + 1), 2).expect("moments")).expect("FID")
    };
    let found: Vec<f64> = (0..16).map(fid).collect();
    let (mean, se) = mean_se(&found);
    let exact = exact_fid(&square(&a), &square(&b));
    assert_within_se(mean, exact + 0.25, se, 4.0);
    // Without the covariances, and without the means, it would be seen.
    assert_beyond_se(mean, 0.25, se, 10.0);
    assert_beyond_se(mean, exact, se, 10.0);
}

/// `E[x^j]` of the uniform law on `[s − 1, s + 1]`, j = 1, 2, 3.
fn uniform_moments(s: f64) -> [f64; 3] {
    [s, s * s + 1.0 / 3.0, s * s * s + s]
}

/// Repeats of KID between 200 uniform numbers and 240 shifted ones, each written `d` times: `x·y/d` is then their product.
fn repeats(shift: f32, d: usize, subset: usize) -> Vec<(f64, f64)> {
    let draw = |n: usize, lane: u32, shift: f32| -> Vec<f32> {
        let u = Stream::new(3, Purpose::Data).lane(lane).uniforms(n, 1);
        u.into_iter().flat_map(|u| vec![2.0 * u - 1.0 + shift; d]).collect()
    };
    let kid = |r: u32| {
        let (x, y) = (draw(200, 2 * r, 0.0), draw(240, 2 * r + 1, shift));
        let streams = [1, 2].map(|lane| Stream::new(u64::from(r), Purpose::Sample).lane(lane));
        let kid = kernel_distance(&x, &y, d, subset, streams);
        assert_eq!((kid.subsets, kid.subset_size), (200 / subset, subset));
        (kid.value.value, kid.value.standard_error)
    };
    (0..200).map(kid).collect()
}

/// KID's mean is the discrepancy itself, `Σ_j C(3, j) (E x^j − E y^j)²`, 0 for equal laws.
#[test]
fn kid_is_unbiased() {
    for d in [1, 4] {
        for (shift, subset) in [(0.0, 20), (0.3, 20), (0.3, 5)] {
            let found = repeats(shift, d, subset);
            let values: Vec<f64> = found.iter().map(|kid| kid.0).collect();
            let (mean, se) = mean_se(&values);
            let (x, y) = (uniform_moments(0.0), uniform_moments(f64::from(shift)));
            let exact: f64 = (0..3).map(|j| [3.0, 3.0, 1.0][j] * (x[j] - y[j]).powi(2)).sum();
            assert_within_se(mean, exact, se, 4.0);
            // With the diagonals it would be too large by (E k(x, x) − E k(x, x'))/m for either law: 1.41/m for the first.
            let diagonal = 1.0 + 3.0 * x[1] + 3.0 / 5.0 + 1.0 / 7.0;
            let off_diagonal = 1.0 + 3.0 * x[1] * x[1];
            let bias = 2.0 * (diagonal - off_diagonal) / subset as f64;
            assert_beyond_se(mean, exact + bias, se, 10.0);
            if shift > 0.0 {
                assert_beyond_se(mean, 0.0, se, 10.0);
            }
            // The standard error is that of the spread over repeats: the mean of its square is the variance.
            let ratios: Vec<f64> = found.iter().map(|kid| (kid.0 - exact).powi(2) - kid.1.powi(2)).collect();
            let (excess, se) = mean_se(&ratios);
            assert_within_se(excess, 0.0, se, 4.0);
        }
    }
}

/// A model that knows the law of data and noise, four far points with unit noise, is no distance from the clean data once its exact samples
/// are denoised; as they are, they are off by the noise's variance in every direction.
#[test]
fn samples_of_a_model_of_noisy_data_are_denoised() {
    let points = [[-9.0, -9.0, 3.0], [9.0, -9.0, -3.0], [-9.0, 9.0, 0.0], [9.0, 9.0, 6.0]];
    let means: Vec<Vec<f64>> = points.iter().map(|point| point.to_vec()).collect();
    let energy = EnergyConfig::GaussianMixture(GaussianMixture {
        means,
        means_noise: 0.0,
        train_means: true,
        logit_learning_rate_scale: 1.0,
    });
    let model =
        EnergyModel::init(EnergySpec::new(SampleShape::Flat(3), energy), 0, &cpu()).expect("a mixture");
    // Exact draws of its law, as many of each point.
    let n = 4_000;
    let data: Vec<f32> = (0..n).flat_map(|i| points[i % 4].map(|x| x as f32)).collect();
    let noise = Stream::new(3, Purpose::Sample).normals(n, 3);
    let draws: Vec<f32> = data.iter().zip(noise).map(|(x, noise)| x + noise).collect();
    let noisy = Tensor::from_data(TensorData::new(draws.clone(), [n, 3]), &cpu());
    let moments = |values: &[f32]| Moments::of(values, 3).expect("finite");
    let distance = |values: &[f32]| frechet(&moments(values), &moments(&data)).expect("finite");
    let (position, treatment) = clean(&model, noisy.clone(), 1.0);
    assert_eq!(treatment, "denoised by the model, for its data had noise of 1");
    let (found, as_they_are) = (distance(&download(position)), distance(&draws));
    println!("Fréchet distance {found:.4} denoised, {as_they_are:.4} as they are");
    // As they are: (√(v + 1) − √v)² of each variance v, 81, 81 and 11.
    assert!(found < 1e-3 && as_they_are > 0.02, "{found} {as_they_are}");
    assert_eq!(download(clean(&model, noisy, 0.0).0), draws);
}
