//! The toy sets of the plane: densities integrate to 1, samples agree with them, numbers depend on seed and index alone.

use std::f64::consts::{PI, TAU};

use ember_model::random::{Purpose, Stream};
use ember_tests::{assert_within_se, mean_se};
use ember_train::config::Config;
use ember_train::dataset::toy2d::Name;
use ember_train::dataset::{Data, Dataset, Modes, Toy2d, Truth};

fn set(name: Name, train_size: usize, test_size: usize) -> Toy2d {
    Toy2d { name, train_size, test_size, batch_size: 1 }
}

fn data(name: Name, train_size: usize, seed: u64) -> Data {
    set(name, train_size, 1).generate(seed).expect("drawn")
}

/// Half the side of a square that holds every set, and no less than 1 − 1e-9 of its mass.
const HALF: f64 = 6.0;

/// The mass of every cell of a square grid, by the midpoint rule on `sub × sub` points of each, `[cells, cells]`.
fn cell_masses(truth: &Truth, cells: usize, sub: usize) -> Vec<f64> {
    let n = cells * sub;
    let side = 2.0 * HALF / n as f64;
    let at = |i: usize| (-HALF + side * (i as f64 + 0.5)) as f32;
    let points: Vec<f32> = (0..n * n).flat_map(|i| [at(i / n), at(i % n)]).collect();
    let mut masses = vec![0.0; cells * cells];
    for (i, log_prob) in truth.log_probs(&points).into_iter().enumerate() {
        masses[(i / n / sub) * cells + i % n / sub] += log_prob.exp() * side * side;
    }
    masses
}

#[test]
fn densities_integrate_to_one() {
    for name in Name::ALL {
        let started = std::time::Instant::now();
        // 400 × 400 cells, as in `ember eval`; every noise spans at least 2.6 of them. The edges of squares are edges of 600.
        let cells = if name == Name::Checkerboard { 600 } else { 400 };
        let mass: f64 = cell_masses(&name.truth(), cells, 1).iter().sum();
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:?}: 1 {:+.1e}, {seconds:.2} s for {cells} × {cells}", mass - 1.0);
        // The folds of the pinwheel leave an infinite density on a line.
        let tolerance = if name == Name::Pinwheel { 1e-5 } else { 1e-6 };
        assert!((mass - 1.0).abs() < tolerance, "{name:?}: {mass}");
    }
}

/// Pearson's statistic of the counts in cells with at least 20 expected, the rest pooled, in standard deviations from its mean.
fn chi_square(rows: &[f32], expected: &[f64], cells: usize) -> f64 {
    let mut counts = vec![0.0; cells * cells];
    let index = |x: f32| ((f64::from(x) + HALF) / (2.0 * HALF) * cells as f64) as usize;
    for row in rows.chunks_exact(2) {
        counts[index(row[0]) * cells + index(row[1])] += 1.0;
    }
    let n = (rows.len() / 2) as f64;
    let (mut chi, mut bins, mut rest) = (0.0, 0.0, (0.0, 0.0));
    for (count, mass) in counts.iter().zip(expected) {
        if n * mass >= 20.0 {
            chi += (count - n * mass).powi(2) / (n * mass);
            bins += 1.0;
        } else {
            rest = (rest.0 + count, rest.1 + n * mass);
        }
    }
    if rest.1 >= 20.0 {
        chi += (rest.0 - rest.1).powi(2) / rest.1;
        bins += 1.0;
    }
    assert!(bins > 100.0, "{bins} cells");
    // χ² of bins − 1 degrees of freedom: mean bins − 1, variance 2 (bins − 1).
    (chi - (bins - 1.0)) / (2.0 * (bins - 1.0)).sqrt()
}

/// Counts in cells against integrals over them; samples of a slightly different law are seen.
#[test]
fn samples_agree_with_the_density() {
    let cells = 60;
    for name in Name::ALL {
        let expected = cell_masses(&name.truth(), cells, 10);
        let rows = data(name, 100_000, 5).train.values().into_owned();
        let z = chi_square(&rows, &expected, cells);
        // Two hundredths wider, turned by two degrees, or moved by five hundredths.
        let (sin, cos) = (PI / 90.0).sin_cos();
        type Broken = fn(f64, f64, f64, f64) -> [f64; 2];
        let broken: [Broken; 3] = [
            |x, y, _, _| [1.02 * x, 1.02 * y],
            |x, y, sin, cos| [cos * x - sin * y, sin * x + cos * y],
            |x, y, _, _| [x + 0.05, y],
        ];
        let seen = broken.map(|broken| {
            let moved = rows
                .chunks_exact(2)
                .flat_map(|row| broken(row[0].into(), row[1].into(), sin, cos).map(|x| x as f32));
            chi_square(&moved.collect::<Vec<f32>>(), &expected, cells)
        });
        println!("{name:?}: {z:+.2} standard deviations; broken: {seen:.1?}");
        assert!(z.abs() < 4.5, "{name:?}: {z}");
        let round = matches!(name, Name::Rings | Name::Circles);
        for (i, z) in seen.into_iter().enumerate() {
            assert!(z > 10.0 || (round && i == 1), "{name:?}, variant {i}: {z}");
        }
    }
}

/// `log Σ_i w_i N(x; p_i, σ² I)` over many points of a curve: the plain twin of the quadratures and of the closed forms.
fn plain(x: [f64; 2], std: f64, points: &[[f64; 2]], weights: &[f64]) -> f64 {
    let square = |p: &[f64; 2]| ((x[0] - p[0]).powi(2) + (x[1] - p[1]).powi(2)) / (2.0 * std * std);
    let terms = points.iter().zip(weights).map(|(p, w)| w * (-square(p)).exp());
    (terms.sum::<f64>() / (TAU * std * std)).ln()
}

/// Points of a curve at the middles of `count` equal steps of t in `range`, with their share of `mass` by `density(t)`.
fn curve(
    count: usize,
    range: [f64; 2],
    density: impl Fn(f64) -> f64,
    place: impl Fn(f64) -> [f64; 2],
) -> (Vec<[f64; 2]>, Vec<f64>) {
    let step = (range[1] - range[0]) / count as f64;
    let t = (0..count).map(|i| range[0] + step * (i as f64 + 0.5));
    t.map(|t| (place(t), density(t) * step)).unzip()
}

#[test]
fn densities_agree_with_plain_sums() {
    let count = 100_000;
    let ring = |radius: f64, mass: f64| {
        curve(count, [0.0, TAU], move |_| mass / TAU, move |t| [radius * t.cos(), radius * t.sin()])
    };
    let both = |(a, b): (Vec<[f64; 2]>, Vec<f64>), (c, d): (Vec<[f64; 2]>, Vec<f64>)| {
        ([a, c].concat(), [b, d].concat())
    };
    let half = |_: f64| 0.5 / PI;
    let moons = both(
        curve(count, [0.0, PI], half, |t| [2.0 * t.cos() - 1.0, 2.0 * t.sin() - 0.2]),
        curve(count, [0.0, PI], half, |t| [2.0 * (1.0 - t.cos()) - 1.0, 2.0 * (0.5 - t.sin()) - 0.2]),
    );
    let roll =
        curve(count, [1.5 * PI, 4.5 * PI], |_| 1.0 / (3.0 * PI), |t| [t * t.cos() / 5.0, t * t.sin() / 5.0]);
    let rings = [3.0, 2.25, 1.5, 0.75].map(|r| ring(r, 0.25)).into_iter().reduce(both).expect("four");
    for (name, std, (points, weights), places, tolerance) in [
        (Name::Rings, 0.08, rings, 60, 1e-9),
        (Name::Circles, 0.24, both(ring(3.0, 0.5), ring(1.5, 0.5)), 60, 1e-9),
        (Name::Moons, 0.2, moons, 60, 1e-4),
        (Name::Swissroll, 0.2, roll, 60, 1e-4),
        // Sums over arcs are off by up to 5e-5 where an end decides.
    ] {
        let truth = name.truth();
        // Places in and around the set: the plane within 4 of the middle.
        let u = Stream::new(1, Purpose::Sample).uniforms(places, 2);
        let mut worst: f64 = 0.0;
        for x in u.chunks_exact(2).map(|u| [8.0 * f64::from(u[0]) - 4.0, 8.0 * f64::from(u[1]) - 4.0]) {
            let (found, expected) = (truth.log_prob(&x), plain(x, std, &points, &weights));
            // Beyond 200 nats a plain sum has lost its digits.
            if expected > -200.0 {
                worst = worst.max((found - expected).abs());
            }
        }
        println!("{name:?}: log density off by {worst:.1e} at most");
        assert!(worst < tolerance, "{name:?}: {worst}");
    }
}

/// The two spirals, jitter and arms by plain sums: the mean of normals over 1,000 places of the jitter in each coordinate.
#[test]
fn the_spirals_agree_with_a_plain_sum() {
    let truth = Name::TwoSpirals.truth();
    let (arm, weights) =
        curve(8_000, [0.0, 3.0 * PI], |n| n / (9.0 * PI * PI), |n| [-n * n.cos() / 3.0, n * n.sin() / 3.0]);
    let normal = |d: f64| (-50.0 * d * d).exp() * 10.0 / TAU.sqrt();
    let jittered = |d: f64| (0..1_000).map(|i| normal(d - (f64::from(i) + 0.5) / 6_000.0)).sum::<f64>() / 1e3;
    let mut worst: f64 = 0.0;
    for x in [[0.1, 0.2], [1.0, -0.7], [-2.3, 1.1], [3.4, 0.5], [0.0, 3.9]] {
        let mut density = 0.0;
        for sign in [1.0, -1.0] {
            // Turned back, the other arm is the first one.
            for (p, weight) in arm.iter().zip(&weights) {
                let gap = [0, 1].map(|c| sign * x[c] - p[c]);
                if gap.iter().all(|gap| gap.abs() < 2.5) {
                    density += weight * jittered(gap[0]) * jittered(gap[1]);
                }
            }
        }
        let (found, expected) = (truth.log_prob(&x), density.ln());
        println!("2spirals at {x:?}: log density {found:.6}, plainly {expected:.6}");
        worst = worst.max((found - expected).abs());
    }
    assert!(worst < 1e-4, "{worst}");
}

/// Preimages of the pinwheel, counted plainly: a fine scan of the circle for changes of sign.
#[test]
fn the_pinwheel_finds_every_preimage() {
    let truth = Name::Pinwheel.truth();
    let u = Stream::new(2, Purpose::Sample).uniforms(200, 2);
    for u in u.chunks_exact(2) {
        // Beyond the fold, too.
        let (r, phi) = (0.05 + 2.2 * f64::from(u[0]), TAU * f64::from(u[1]) - PI);
        let x = [2.0 * r * phi.cos(), 2.0 * r * phi.sin()];
        let mut density = 0.0;
        for arm in 0..5 {
            // sin((h(α) − φ − 2πk/5)/2) changes its sign at every preimage.
            let gap = |alpha: f64| {
                (0.5 * (alpha - 0.25 * (r * alpha.cos()).exp() - phi - TAU * f64::from(arm) / 5.0)).sin()
            };
            let n = 40_000;
            let at = |i: usize| -PI + TAU * i as f64 / n as f64;
            for i in 0..n {
                let (mut low, mut high) = (at(i), at(i + 1));
                if (gap(low) > 0.0) == (gap(high) > 0.0) {
                    continue;
                }
                for _ in 0..50 {
                    let middle = 0.5 * (low + high);
                    if (gap(middle) > 0.0) == (gap(low) > 0.0) { low = middle } else { high = middle }
                }
                let f = [r * low.cos(), r * low.sin()];
                let normals = (-0.5 * (((f[0] - 1.0) / 0.3).powi(2) + (f[1] / 0.1).powi(2))).exp();
                density += normals / (4.0 * (1.0 + 0.25 * f[0].exp() * f[1]).abs());
            }
        }
        let expected = (density / (5.0 * TAU * 0.3 * 0.1)).ln();
        let found = truth.log_prob(&x);
        if expected > -600.0 {
            assert!((found - expected).abs() < 1e-6, "r = {r}, φ = {phi}: {found}, expected {expected}");
        }
    }
}

#[test]
fn samples_are_functions_of_seed_and_index() {
    for name in Name::ALL {
        let (few, many, other) = (data(name, 50, 3), data(name, 500, 3), data(name, 500, 4));
        assert_eq!(few.train.values()[..], many.train.values()[..100], "{name:?}");
        assert_eq!(few.train_labels, many.train_labels[..50], "{name:?}");
        assert_ne!(many.train, other.train, "{name:?}");
        let both = set(name, 50, 50).generate(3).expect("drawn");
        assert_ne!(both.train, both.test, "{name:?}: held-out samples are other samples");
        // Nor are the draws of estimates any of them.
        let truth = name.truth();
        let draws = truth.draw(50, 3, 0);
        assert_eq!(draws[..20], truth.draw(10, 3, 0)[..], "{name:?}");
        assert_ne!(draws, truth.draw(50, 3, 1), "{name:?}");
        assert!(draws != both.train.values()[..] && draws != both.test.values()[..], "{name:?}");
    }
}

/// The label is drawn with its mass, and the mode of a sample is its label but for the tails.
#[test]
fn labels_have_their_masses_and_modes() {
    for name in Name::ALL {
        let (truth, data) = (name.truth(), data(name, 50_000, 9));
        assert!((truth.masses.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(truth.dim(), 2);
        let n = data.train_labels.len() as f64;
        for (fraction, &mass) in data.train_fractions().iter().zip(&truth.masses) {
            let spread = (mass * (1.0 - mass) / n).sqrt();
            assert!((fraction - mass).abs() <= 4.0 * spread, "{name:?}: {fraction} of {mass}");
        }
        let kinds = [Name::Moons, Name::Pinwheel, Name::TwoSpirals, Name::Swissroll];
        let Some(modes) = &truth.modes else {
            assert!(kinds.contains(&name), "{name:?}");
            continue;
        };
        assert_eq!(modes.count(), truth.masses.len());
        let rings = matches!(name, Name::Rings | Name::Circles);
        assert_eq!((modes.radii().is_some(), modes.centres().is_some()), (rings, !rings), "{name:?}");
        let values = data.train.values();
        let samples = values.chunks_exact(2).zip(&data.train_labels);
        let wrong = samples.filter(|(x, label)| modes.of(&[x[0].into(), x[1].into()]) != **label as usize);
        let share = wrong.count() as f64 / n;
        println!("{name:?}: {share:.5} of the samples are nearer to another mode");
        assert!(share < 0.004, "{name:?}: {share}");
    }
    assert_eq!(Modes::Rings(vec![1.0, 3.0]).of(&[0.0, -1.9]), 0);
    assert_eq!(Modes::Centres(vec![vec![0.0, 0.0, 0.0], vec![0.0, 0.0, 2.0]]).of(&[9.0, 9.0, 1.1]), 1);
}

/// `two_modes` is for relative masses: 2 : 1, and nothing local crosses between them.
#[test]
fn two_modes_are_far_apart() {
    let truth = Name::TwoModes.truth();
    let (mixture, std) = truth.mixture().expect("a mixture");
    assert!((mixture.masses[0] - 2.0 * mixture.masses[1]).abs() < 1e-12);
    let gap = (mixture.means[1][0] - mixture.means[0][0]) / std;
    assert!((gap - 8.0).abs() < 1e-12);
    // From the top of the smaller mode to the saddle.
    let barrier = truth.log_prob(&[2.0, 0.0]) - truth.log_prob(&[0.0, 0.0]);
    assert!(barrier > 6.5, "{barrier}");
}

/// A mean and a variance by hand: FFJORD's `make_circles(factor = .5, noise = .08)·3`, `rings` and `2spirals`.
#[test]
fn second_moments_are_those_of_the_formulas() {
    let ring = |radii: &[f64], std: f64| {
        radii.iter().map(|r| r * r).sum::<f64>() / radii.len() as f64 + 2.0 * std * std
    };
    // E n² = (3π)²/2 with n = 3π √u; E t² of a uniform t.
    let square = |a: f64, b: f64| (b.powi(3) - a.powi(3)) / (3.0 * (b - a));
    for (name, exact) in [
        (Name::Circles, ring(&[3.0, 1.5], 0.24)),
        (Name::Rings, ring(&[0.75, 1.5, 2.25, 3.0], 0.08)),
        (Name::Swissroll, square(1.5 * PI, 4.5 * PI) / 25.0 + 0.08),
        (Name::Pinwheel, 4.0 * (1.0 + 0.09 + 0.01)),
        (Name::EightGaussians, (16.0 + 0.5) / (1.414 * 1.414)),
    ] {
        let rows = data(name, 50_000, 21).train.values().into_owned();
        let squares: Vec<f64> =
            rows.chunks_exact(2).map(|x| f64::from(x[0]).powi(2) + f64::from(x[1]).powi(2)).collect();
        let (mean, se) = mean_se(&squares);
        assert_within_se(mean, exact, se, 4.0);
    }
}

const CONFIG: &str = r#"
steps = 10
[dataset]
kind = "toy2d"
name = "moons"
train_size = 100
test_size = 100
batch_size = 50
[energy]
kind = "mlp"
hidden = [8]
confinement = 1.0
[walkers]
count = 32
[kernel]
kind = "ula"
step_size = 0.1
[objective]
kind = "jarzynski"
[optimizer]
kind = "sgd"
learning_rate = 0.1
"#;

#[test]
fn mistakes_are_named() {
    let config = Config::from_toml(CONFIG, "good.toml").expect("right");
    assert_eq!(Config::from_toml(&config.to_toml(), "again").expect("right"), config);
    let conv = "kind = \"conv\"\nlayers = [{ out = 4, kernel = 3 }]";
    for (from, to, words) in [
        ("\"moons\"", "\"moon\"", &["dataset.name", "\"moon\"", "did you mean `moons`?", "`2spirals`"][..]),
        ("\"moons\"", "\"8gaussian\"", &["dataset.name", "did you mean `8gaussians`?"]),
        ("name = \"moons\"\n", "", &["dataset.name", "missing"]),
        ("name = \"moons\"", "name = 3", &["dataset.name", "3"]),
        ("name = \"moons\"", "names = \"moons\"", &["dataset.names", "did you mean `name`?"]),
        ("train_size = 100", "train_size = 0", &["dataset.train_size", "found 0", "at least 1"]),
        ("test_size = 100", "test_size = 0", &["dataset.test_size", "found 0"]),
        ("test_size = 100", "test_size = 3000000000", &["dataset.test_size", "the most a tensor can hold"]),
        ("batch_size = 50", "batch_size = 0", &["dataset.batch_size", "found 0"]),
        ("batch_size = 50", "batch_size = 101", &["dataset.batch_size", "found 101", "train_size = 100"]),
        ("kind = \"mlp\"\nhidden = [8]", conv, &["energy.kind", "\"conv\" does not fit samples of shape"]),
        ("\"toy2d\"", "\"toy2\"", &["dataset.kind", "did you mean `toy2d`?"]),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        let error = Config::from_toml(&CONFIG.replace(from, to), "bad.toml").expect_err(to);
        let message = error.to_string();
        assert_eq!(error.exit_code(), 2, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }
}
