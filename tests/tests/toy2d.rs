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
        // 400 × 400 cells, those of `ember eval`; every noise spans at least 2.6 of them.
        let mass: f64 = cell_masses(&name.truth(), 400, 1).iter().sum();
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:?}: 1 {:+.1e}, {seconds:.2} s for 400 × 400", mass - 1.0);
        // The folds of the pinwheel leave an infinite density on a line.
        let tolerance = if name == Name::Pinwheel { 1e-5 } else { 1e-7 };
        assert!((mass - 1.0).abs() < tolerance, "{name:?}: {mass}");
        assert!(seconds < 2.0, "{name:?}: {seconds} s");
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
        // A hundredth wider, turned by a degree, or moved by a hundredth.
        let (sin, cos) = (PI / 180.0).sin_cos();
        let broken: [fn(f64, f64, f64, f64) -> [f64; 2]; 3] = [
            |x, y, _, _| [1.02 * x, 1.02 * y],
            |x, y, sin, cos| [cos * x - sin * y, sin * x + cos * y],
            |x, y, _, _| [x + 0.03, y],
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
