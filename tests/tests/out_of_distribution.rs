//! AUROC with its standard error, the Gaussian baseline, and bits per dimension: against brute force, closed forms and simulation.

use ember_model::energy::mlp::Mlp;
use ember_model::random::{Purpose, Stream};
use ember_model::shape::Support;
use ember_model::{EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::statistics::Estimate;
use ember_tests::{assert_beyond_se, assert_within_se, cpu, mean_se};
use ember_train::dataset::gaussian_fit::GaussianFit;
use ember_train::dataset::{Data, Rows};
use ember_train::judging::likelihood::{bits_per_dim, of_images};
use ember_train::judging::ood::{Against, auroc, judge};

/// Standard normals, shifted.
fn normals(count: usize, mean: f64, seed: u64) -> Vec<f64> {
    let draws = Stream::new(seed, Purpose::Sample).normals(count, 1);
    draws.into_iter().map(|z| mean + f64::from(z)).collect()
}

/// `Φ(1/√2)`: the AUROC of `N(1, 1)` against `N(0, 1)`.
const ONE_APART: f64 = 0.760_249_938_906_523;

/// Definition: all pairs, ties half; placements by double loop, their variances over m and n (DeLong et al. 1988, (5) to (7)).
#[test]
fn ranks_agree_with_all_pairs() {
    // Rounded, so that there are ties within and across the sets.
    let round = |values: Vec<f64>| values.into_iter().map(|v| (2.0 * v).round()).collect::<Vec<_>>();
    let (x, y) = (round(normals(40, 0.0, 1)), round(normals(25, 0.7, 2)));
    let psi = |x: f64, y: f64| if y > x { 1.0 } else { f64::from(u8::from(x == y)) * 0.5 };
    let of_x: Vec<f64> = x.iter().map(|&x| y.iter().map(|&y| psi(x, y)).sum::<f64>() / 25.0).collect();
    let of_y: Vec<f64> = y.iter().map(|&y| x.iter().map(|&x| psi(x, y)).sum::<f64>() / 40.0).collect();
    let ((theta, se_x), (_, se_y)) = (mean_se(&of_x), mean_se(&of_y));
    let found = auroc(&x, &y);
    assert!((found.value - theta).abs() < 1e-12, "{found:?}, all pairs {theta}");
    assert!((found.standard_error - se_x.hypot(se_y)).abs() < 1e-12, "{found:?}, se {}", se_x.hypot(se_y));
}

/// Two Gaussians have a closed form; the standard error is the spread over independent data; flipped scores fail.
#[test]
fn known_gaussians() {
    let runs: Vec<Estimate> =
        (0..400).map(|run| auroc(&normals(120, 0.0, 1_000 + run), &normals(80, 1.0, 9_000 + run))).collect();
    let (mean, se) = mean_se(&runs.iter().map(|run| run.value).collect::<Vec<_>>());
    assert_within_se(mean, ONE_APART, se, 4.0);
    // The spread's own standard error is 1/√(2·399) of it.
    let (spread, claimed) = (20.0 * se, runs.iter().map(|run| run.standard_error).sum::<f64>() / 400.0);
    println!("AUROC over 400 runs: {mean:.4} ± {se:.4}, spread {spread:.4}, claimed {claimed:.4}");
    assert_within_se(claimed, spread, spread / 798f64.sqrt(), 4.0);

    let (x, y) = (normals(5_000, 0.0, 5), normals(4_000, 1.0, 6));
    let found = auroc(&x, &y);
    assert_within_se(found.value, ONE_APART, found.standard_error, 4.0);
    let flip = |values: &[f64]| values.iter().map(|v| -v).collect::<Vec<_>>();
    let flipped = auroc(&flip(&x), &flip(&y));
    assert!((flipped.value + found.value - 1.0).abs() < 1e-12);
    assert_beyond_se(flipped.value, ONE_APART, flipped.standard_error, 10.0);
}

/// Two sets of one law cannot be told apart; disjoint sets are told apart without error.
#[test]
fn equal_and_disjoint_sets() {
    let (x, y) = (normals(3_000, 0.0, 7), normals(3_000, 0.0, 8));
    let found = auroc(&x, &y);
    assert_within_se(found.value, 0.5, found.standard_error, 4.0);
    // to the rounding of a sum of 3,000 terms
    assert!((auroc(&x, &x).value - 0.5).abs() < 1e-12);
    let far = auroc(&x, &normals(100, 50.0, 9));
    assert_eq!((far.value, far.standard_error), (1.0, 0.0));
}

/// The fitted Gaussian's energies are Mahalanobis distances: their mean over the fitted rows is d/2 where there is no ridge,
/// whatever the affine map, and a point's value is known where the moments are.
#[test]
fn the_gaussian_fit_is_mahalanobis() {
    let (n, dim) = (3_000, 7);
    let z = Stream::new(4, Purpose::Sample).normals(n, dim);
    let rows: Vec<f32> = z
        .chunks_exact(dim)
        .flat_map(|z| (0..dim).map(|j| 3.0 + z[..=j].iter().sum::<f32>() * (j as f32 + 1.0)))
        .collect();
    let fit = GaussianFit::new(&rows, dim, 0.0).expect("a fit");
    let energies = fit.energies(&rows);
    let mean = energies.iter().sum::<f64>() / n as f64;
    assert!((mean - 0.5 * dim as f64).abs() < 1e-6, "{mean}");
    assert_eq!(fit.ridge, 0.0);

    // Moments by hand: mean (0, 0), variances 1 and 4, no correlation, ridge ½ of the mean variance 2.5.
    let square = [1.0, 2.0, -1.0, 2.0, 1.0, -2.0, -1.0, -2.0];
    let fit = GaussianFit::new(&square, 2, 0.5).expect("a fit");
    assert!((fit.ridge - 1.25).abs() < 1e-12);
    let found = fit.energies(&[3.0, 1.0])[0];
    let expected = 0.5 * (9.0 / 2.25 + 1.0 / 5.25);
    assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
    let flat = GaussianFit::new(&[1.0; 8], 2, 1e-3).expect_err("no variance at all");
    assert!(flat.to_string().contains("not positive definite"), "{flat}");
}

/// Images of grey `level ± 20`.
fn images(count: usize, shape: SampleShape, level: i32, lane: u32) -> Vec<u8> {
    let stream = Stream::new(3, Purpose::Data).lane(lane);
    let uniforms = stream.uniforms(count, shape.dim());
    uniforms.into_iter().map(|u| (level + (40.0 * u) as i32 - 20) as u8).collect()
}

fn data(shape: SampleShape, level: i32, test: usize) -> Data {
    Data {
        shape,
        train: Rows::U8(images(200, shape, level, 0)),
        train_labels: vec![0; 200],
        test: Rows::U8(images(test, shape, level, 1)),
        test_labels: vec![0; test],
        class_names: Vec::new(),
    }
}

/// `U = ½ · 4 |x|²`: low on mid-grey images.
fn model(shape: SampleShape) -> EnergyModel {
    let energy = Mlp {
        hidden: vec![4],
        activation: Default::default(),
        spectral_norm: false,
        confinement: 4.0,
        levels: None,
    };
    EnergyModel::init(EnergySpec::new(shape, EnergyConfig::Mlp(energy)), 0, &cpu()).expect("a model")
}

/// Mid-grey images against bright ones, against images of their own law, and against those of another shape.
#[test]
fn energies_tell_sets_apart() {
    let shape = SampleShape::Image([1, 4, 4]);
    let (model, own) = (model(shape), data(shape, 128, 300));
    let dir = std::path::Path::new("some/folder");
    let score = |level: i32, lane: u32, noise: f64| {
        let mut other = data(shape, level, 1);
        other.test = Rows::U8(images(250, shape, level, lane));
        judge(&model, &own, &Against::new(dir, other, shape).expect("fits"), noise).expect("scores")
    };
    let bright = score(200, 5, 0.0);
    assert_eq!((bright.held_out, bright.others, bright.split), (300, 250, "test"));
    assert_eq!((bright.auroc.value, bright.auroc_gaussian.value), (1.0, 1.0));
    assert_eq!((bright.gaussian_samples, bright.standard_error_method), (200, "DeLong"));
    for noise in [0.0, 0.3] {
        let same = score(128, 6, noise);
        assert_within_se(same.auroc.value, 0.5, same.auroc.standard_error, 4.0);
        assert_eq!(same.noise, noise);
    }
    // The noise reaches both sets: little of the difference is left under much of it.
    let noisy = score(138, 7, 3.0);
    assert!(noisy.auroc.value < score(138, 7, 0.0).auroc.value - 0.1, "{noisy:?}");

    // A set sorted by class, of more images than are scored: both halves count.
    let mut sorted = data(shape, 128, 1);
    sorted.test = Rows::U8([images(9_000, shape, 128, 8), images(9_000, shape, 200, 9)].concat());
    let both = judge(&model, &own, &Against::new(dir, sorted, shape).expect("fits"), 0.0).expect("scores");
    assert_eq!(both.others, 10_000);
    assert_within_se(both.auroc.value, 0.75, both.auroc.standard_error, 4.0);

    let mut without_test = data(shape, 200, 0);
    without_test.test = Rows::U8(Vec::new());
    let by_train = judge(&model, &own, &Against::new(dir, without_test.clone(), shape).expect("fits"), 0.0);
    assert_eq!(by_train.expect("scores").split, "train");
    let nothing_held_out = judge(&model, &without_test, &Against::new(dir, own, shape).expect("fits"), 0.0);
    let error = nothing_held_out.expect_err("nothing is held out");
    assert!(error.to_string().contains("holds nothing out") && error.exit_code() == 2, "{error}");

    let other = SampleShape::Image([3, 4, 4]);
    let error = Against::new(dir, data(other, 128, 5), shape).expect_err("another shape");
    let text = error.to_string();
    assert!(
        text.contains("some/folder") && text.contains("[3, 4, 4]") && text.contains("[1, 4, 4]"),
        "{text}"
    );
    assert_eq!(error.exit_code(), 2);
}

/// The uniform density on `[−1, 1]^d` needs 8 bits a byte; standard errors shrink by `d ln 2`; noise is told.
#[test]
fn bits_per_dimension() {
    let estimate = |value: f64, standard_error: f64| Estimate { value, standard_error };
    let uniform = bits_per_dim(estimate(0.0, 0.0), estimate(10.0 * 2f64.ln(), 0.3), 10, 2.0 / 256.0);
    assert!((uniform.value - 8.0).abs() < 1e-12, "{uniform:?}");
    assert!((uniform.standard_error - 0.3 / (10.0 * 2f64.ln())).abs() < 1e-12, "{uniform:?}");

    let shape = SampleShape::Image([1, 4, 4]);
    let (mean, log_z) = (estimate(5.0, 0.1), estimate(20.0, 0.2));
    let own = data(shape, 128, 4);
    let found = of_images(mean, log_z, &own, 0.0, Support::Unbounded, None).expect("images");
    assert!((found.estimate.value - (25.0 / (16.0 * 2f64.ln()) + 7.0)).abs() < 1e-9, "{found:?}");
    assert!(found.caveat.is_none() && found.sides.is_none());
    let noisy = of_images(mean, log_z, &own, 0.03, Support::Unbounded, None).expect("images");
    assert!(noisy.caveat.expect("a caveat").contains("0.03"));
    assert!(of_images(mean, log_z, &own, 0.03, Support::Cube, None).is_none(), "noise leaves the cube");
    let vectors = Data { test: Rows::F32(vec![0.0; 16]), ..own };
    assert!(of_images(mean, log_z, &vectors, 0.0, Support::Unbounded, None).is_none());
}
