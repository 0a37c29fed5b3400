//! Normalizing flows: inverses, log-determinants, densities, draws, starts, files and mistakes, for every kind.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::flow::{NonFinite, Quantity};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::{assert_within_se, cpu, gpu, mean_se};
use ember_train::config::Config;
use ember_train::trainer::Trainer;
use proptest::prelude::*;

const HALF: &str = "kind = \"real_nvp\"\nlayers = 4\nhidden = [16, 16]\nact_norm = true";
const PARITY: &str =
    "kind = \"real_nvp\"\nlayers = 3\nhidden = [16]\nactivation = \"tanh\"\nmask = \"checkerboard\"";
const SPLINE: &str = "kind = \"spline_flow\"\nlayers = 3\nhidden = [16]\nbins = 5\nbound = 3.0";
const SCALES: &str = "kind = \"multiscale_real_nvp\"\nlevels = 1\ncouplings = 2\nchannels = 6";

/// Every kind on few coordinates: Jacobians, differences and extremes are had one by one.
fn small() -> Vec<String> {
    let mut tables = Vec::new();
    for dim in [2, 8] {
        tables.push(format!("dim = {dim}\n{HALF}"));
        tables.push(format!("dim = {dim}\n{SPLINE}"));
    }
    tables.push(format!("dim = 3\n{SPLINE}\nmask = \"checkerboard\"\nact_norm = true"));
    tables.push(format!("shape = [1, 2, 4]\n{SCALES}\nact_norm = true"));
    tables.push(format!("shape = [2, 2, 2]\n{SCALES}\nlogit_alpha = 0.05"));
    for dim in [2, 3, 8] {
        tables.push(format!("dim = {dim}\n{PARITY}"));
    }
    tables
}

/// Kinds on two coordinates, smooth: their densities can be integrated on a grid.
fn planar() -> Vec<String> {
    small().into_iter().filter(|table| table.starts_with("dim = 2")).collect()
}

/// The same on 32, 784 and 3,072 coordinates.
fn large() -> Vec<String> {
    let scales = |shape: &str, levels: usize| {
        let table = SCALES.replace("levels = 1", &format!("levels = {levels}"));
        format!("shape = {shape}\n{table}\nact_norm = true")
    };
    let mut tables = vec![scales("[2, 4, 4]", 2), scales("[1, 28, 28]", 2), scales("[3, 32, 32]", 3)];
    tables.push(format!("shape = [1, 28, 28]\n{SCALES}\nlogit_alpha = 0.05"));
    for dim in [32, 784, 3_072] {
        tables.push(format!("dim = {dim}\n{HALF}"));
        tables.push(format!("dim = {dim}\n{PARITY}"));
        // A network's sensitivity to 392 rounded inputs is what rounding grows by at each coupling.
        tables.push(format!("dim = {dim}\n{}", SPLINE.replace("layers = 3", "layers = 2")));
    }
    tables
}

fn start(table: &str, device: &Device) -> EnergyModel {
    let spec = EnergySpec::from_metadata(table).expect(table);
    EnergyModel::init(spec, 3, device).expect(table)
}

/// Away from the identity: every parameter moved by noise; the networks' outputs are then of size ⅓.
fn trained(table: &str, device: &Device) -> EnergyModel {
    let model = start(table, device);
    let theta = model.host_theta();
    let theta = model.params().into_iter().zip(theta).enumerate().map(|(i, (spec, values))| {
        let fan_in = spec.shape[1..].iter().product::<usize>();
        let size = if spec.shape.len() > 1 { 0.4 / (fan_in as f32).sqrt() } else { 0.1 };
        let noise = Stream::new(4, Purpose::Init).lane(i as u32).normals(values.len(), 1);
        upload(values.iter().zip(noise).map(|(v, z)| v + size * z).collect(), device)
    });
    let theta = theta.collect();
    model.with_theta(theta)
}

fn normals(lane: u32, count: usize, dim: usize, device: &Device) -> Tensor<2> {
    let values = Stream::new(6, Purpose::Data).lane(lane).normals(count, dim);
    Tensor::from_data(TensorData::new(values, [count, dim]), device)
}

fn forward(model: &EnergyModel, z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    model.flow().expect("a flow").forward(model.theta(), z)
}

fn inverse(model: &EnergyModel, x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    model.flow().expect("a flow").inverse(model.theta(), x)
}

fn largest<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f64 {
    download(a - b).into_iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max)
}

/// Forth and back and back and forth: `(error of the coordinates, error of the log-determinants, how far the flow moves)`.
fn round_trips(model: &EnergyModel, points: &Tensor<2>) -> (f64, f64, f64) {
    let (x, out) = forward(model, points.clone());
    let (z, back) = inverse(model, x.clone());
    let (u, inward) = inverse(model, points.clone());
    let (y, outward) = forward(model, u);
    let position = largest(z, points.clone()).max(largest(y, points.clone()));
    let log_det = largest(out, back.neg()).max(largest(inward, outward.neg()));
    (position, log_det, largest(x, points.clone()))
}

/// 10⁻⁴ for coordinates of size 1 to 10: a few hundred units in the last place, for up to 4 layers that each stretch by up to
/// e. Log-determinants sum d terms, whose rounding adds up.
#[test]
fn inverse_undoes_forward() {
    for table in small().into_iter().chain(large()) {
        let model = trained(&table, &cpu());
        let dim = model.dim();
        let (position, log_det, moved) = round_trips(&model, &normals(0, 16, dim, &cpu()));
        println!(
            "{}, {dim}: positions to {position:.1e}, log-determinants to {log_det:.1e}, moved by {moved:.2}",
            model.spec().energy.kind()
        );
        assert!(moved > 0.5, "{table}: all but the identity would pass");
        assert!(position <= 1e-4, "{table}: {position}");
        assert!(log_det <= 1e-4 + 1e-6 * dim as f64, "{table}: {log_det}");
    }
}

/// `log |det|` by elimination with partial pivots. `matrix: [d][d]`.
fn log_abs_det(mut matrix: Vec<Vec<f64>>) -> f64 {
    let d = matrix.len();
    let mut sum = 0.0;
    for column in 0..d {
        let pivot = (column..d)
            .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))
            .expect("a row");
        matrix.swap(column, pivot);
        sum += matrix[column][column].abs().ln();
        for row in column + 1..d {
            let factor = matrix[row][column] / matrix[column][column];
            let pivot = matrix[column].clone();
            matrix[row].iter_mut().zip(&pivot).for_each(|(entry, pivot)| *entry -= factor * pivot);
        }
    }
    sum
}

/// The log-determinants of both directions are those of the Jacobians that autodiff finds, to 10⁻⁴: f32 entries of relative error
/// 10⁻⁶ in at most 8 × 8 of them.
#[test]
fn log_det_is_the_jacobians() {
    const POINTS: usize = 8;
    type Direction = fn(&EnergyModel, Tensor<2>) -> (Tensor<2>, Tensor<1>);
    for table in small() {
        let model = trained(&table, &cpu());
        let dim = model.dim();
        for (name, map) in [("forward", forward as Direction), ("inverse", inverse as Direction)] {
            let at = normals(1, POINTS, dim, &cpu());
            let found = download(map(&model, at.clone()).1);
            let mut jacobians = vec![vec![vec![0.0; dim]; dim]; POINTS];
            for i in 0..dim {
                let at = at.clone().autodiff().require_grad();
                let mut tape = map(&model, at.clone()).0.narrow(1, i, 1).sum().backward();
                let row = download(at.grad_remove(&mut tape).expect("a gradient"));
                for (n, jacobian) in jacobians.iter_mut().enumerate() {
                    jacobian[i] = row[n * dim..(n + 1) * dim].iter().map(|&v| f64::from(v)).collect();
                }
            }
            for (jacobian, found) in jacobians.into_iter().zip(found) {
                let exact = log_abs_det(jacobian);
                assert!((exact - f64::from(found)).abs() < 1e-4, "{table}, {name}: {found} for {exact}");
            }
        }
    }
}

/// ±10⁴ in every coordinate, or in one alone: energies, forces, gradients and both directions stay finite.
#[test]
fn far_away_everything_is_finite() {
    for table in small() {
        let model = trained(&table, &cpu());
        let dim = model.dim();
        let signs: Vec<f32> =
            download(normals(2, 16, dim, &cpu())).iter().map(|z| 1e4 * z.signum()).collect();
        let alone = (0..2 * dim * dim).map(|i| {
            let (row, column) = (i / dim, i % dim);
            let sign = if row < dim { 1e4 } else { -1e4 };
            if row % dim == column { sign } else { 0.0 }
        });
        let values: Vec<f32> = signs.into_iter().chain(alone).collect();
        let count = values.len() / dim;
        let x = Tensor::<2>::from_data(TensorData::new(values, [count, dim]), &cpu());
        let (u, grad) = model.energy_and_grad(x.clone());
        let (out, out_det) = forward(&model, x.clone());
        let theta = model.weighted_param_grads(&[(x.clone(), Tensor::ones([count], &cpu()))]).grads;
        let theta = theta.into_iter().flat_map(download);
        let all = [download(u), download(grad), download(out), download(out_det)].concat();
        assert!(all.into_iter().chain(theta).all(f32::is_finite), "{table}");
        assert_eq!(model.first_non_finite_layer(x), None, "{table}");
    }
}

/// `(x, y, ρ(x, y))` on a grid of squares with the given side.
fn grid(model: &EnergyModel, half_width: f64, side: f64) -> Vec<[f64; 3]> {
    let steps = (2.0 * half_width / side) as usize;
    let centre = |i: usize| (i as f64 + 0.5) * side - half_width;
    let mut cells = Vec::with_capacity(steps * steps);
    for i in 0..steps {
        let row: Vec<f32> = (0..steps).flat_map(|j| [centre(i) as f32, centre(j) as f32]).collect();
        let x = Tensor::from_data(TensorData::new(row, [steps, 2]), &cpu());
        let u = download(model.energy(x));
        cells.extend(u.iter().enumerate().map(|(j, &u)| [centre(i), centre(j), f64::from(-u).exp()]));
    }
    cells
}

const SIDE: f64 = 0.05;

/// Integral 1 to 10⁻³: the midpoint rule on squares of .05 is good to that for densities with features of size .3 or more. Draws
/// follow the same density: the mean of `−log ρ` is the grid's entropy to 4 standard errors (an entropy off by .03 would be
/// seen), and the marginals pass Kolmogorov and Smirnov's test at 6·10⁻⁵.
#[test]
fn density_and_draws_agree_on_a_grid() {
    const DRAWS: usize = 20_000;
    for table in planar() {
        let model = trained(&table, &cpu());
        let cells = grid(&model, 14.0, SIDE);
        let area = SIDE * SIDE;
        let mass: f64 = cells.iter().map(|cell| cell[2] * area).sum();
        assert!((mass - 1.0).abs() < 1e-3, "{table}: {mass}");
        assert_eq!(model.log_z(), Some(0.0));

        let draws = model.draw(DRAWS, Stream::new(8, Purpose::Sample)).expect("a flow is drawn exactly");
        let x = Tensor::from_data(TensorData::new(draws.clone(), [DRAWS, 2]), &cpu());
        let surprises: Vec<f64> = download(model.energy(x)).into_iter().map(f64::from).collect();
        let entropy: f64 = -cells.iter().map(|cell| cell[2] * area * cell[2].max(1e-300).ln()).sum::<f64>();
        let (mean, error) = mean_se(&surprises);
        println!(
            "{table}: integral {mass:.5}, entropy {entropy:.4} by the grid, {mean:.4} ± {error:.4} by draws"
        );
        assert_within_se(mean, entropy, error, 4.0);

        let steps = (28.0 / SIDE) as usize;
        for axis in 0..2 {
            // The marginal's distribution function at the cells' upper ends.
            let mut cumulative = vec![0.0; steps];
            for (i, cell) in cells.iter().enumerate() {
                cumulative[if axis == 0 { i / steps } else { i % steps }] += cell[2] * area;
            }
            (1..steps).for_each(|i| cumulative[i] += cumulative[i - 1]);
            let mut below = vec![0usize; steps];
            for row in draws.chunks_exact(2) {
                let cell = ((f64::from(row[axis]) + 14.0) / SIDE).floor();
                below[(cell.max(0.0) as usize).min(steps - 1)] += 1;
            }
            (1..steps).for_each(|i| below[i] += below[i - 1]);
            let gap = cumulative.iter().zip(&below).map(|(c, &b)| (c - b as f64 / DRAWS as f64).abs());
            let gap = gap.fold(0.0, f64::max);
            // P(√n D > 2.28) = 6·10⁻⁵
            let limit = 2.28 / (DRAWS as f64).sqrt() + 1e-3;
            assert!(gap < limit, "{table}, axis {axis}: {gap} of {limit}");
        }
    }
}

/// The model's draws are the flow's samples from the same stream, and the same call gives the same bits.
#[test]
fn draws_are_deterministic() {
    for table in small() {
        let model = trained(&table, &cpu());
        let stream = Stream::new(9, Purpose::Sample);
        let draws = model.draw(10, stream).expect("exact");
        assert_eq!(draws, model.draw(10, stream).expect("exact"), "{table}");
        let flow = model.flow().expect("a flow");
        assert_eq!(draws, download(flow.sample(model.theta(), 10, stream)), "{table}");
        assert_ne!(draws, model.draw(10, stream.lane(1)).expect("exact"), "{table}");
    }
}

/// The CPU and the GPU path agree to 2·10⁻⁴ of the largest value: both are f32, in another order of sums.
#[test]
fn the_gpu_path_agrees() {
    let Some(device) = gpu() else { return };
    for table in small() {
        let results = |device: &Device| {
            let model = trained(&table, device);
            let x = normals(3, 5, model.dim(), device);
            let (u, grad) = model.energy_and_grad(x.clone());
            let (out, out_det) = forward(&model, x.clone());
            let mut found = vec![download(u), download(grad), download(out), download(out_det)];
            let grads = model.weighted_param_grads(&[(x, Tensor::ones([5], device))]).grads;
            found.extend(grads.into_iter().map(download));
            found
        };
        for (here, there) in results(&cpu()).into_iter().zip(results(&device)) {
            let scale = here.iter().fold(0f32, |a, b| a.max(b.abs()));
            let worst = here.iter().zip(&there).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 2e-4 * scale, "{table}: {worst} of {scale}");
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Along the gradient's own direction, `∇ₓU` and each `∂_θ Σ U` are the central differences to 2 %: steps of 2·10⁻³ in energies
/// of some tens lose 10⁻² of a difference to rounding at worst, and a gradient that misses a twentieth would fail.
#[test]
fn gradients_are_the_differences() {
    let step = 2e-3;
    for table in small() {
        let model = trained(&table, &cpu());
        let x = normals(4, 4, model.dim(), &cpu());
        let sum = |model: &EnergyModel, x: Tensor<2>| -> f64 {
            download(model.energy(x)).into_iter().map(f64::from).sum()
        };
        let check = |what: &str, analytic: f64, plus: f64, minus: f64| {
            let difference = (plus - minus) / (2.0 * step);
            let off = (analytic - difference).abs() / (0.5 + difference.abs());
            assert!(off < 0.02, "{table}, {what}: {analytic} for {difference}");
        };
        let unit = |values: &[f32]| -> Vec<f32> {
            let norm = dot(values, values).sqrt().max(1e-12) as f32;
            values.iter().map(|v| v / norm).collect()
        };
        let grad = model.energy_and_grad(x.clone()).1;
        let dims = grad.dims();
        let grad = download(grad);
        let v = Tensor::<2>::from_data(TensorData::new(unit(&grad), dims), &cpu());
        let shifted = |step: f64| sum(&model, x.clone() + v.clone().mul_scalar(step));
        check("x", dot(&grad, &grad).sqrt(), shifted(step), shifted(-step));

        let grads = model.weighted_param_grads(&[(x.clone(), Tensor::ones([4], &cpu()))]).grads;
        for (i, (spec, grad)) in model.params().into_iter().zip(grads).enumerate() {
            let grad = download(grad);
            let v = unit(&grad);
            let shifted = |step: f64| {
                let mut theta = model.theta().to_vec();
                theta[i] = theta[i].clone() + upload(v.clone(), &cpu()).mul_scalar(step);
                sum(&model.with_theta(theta), x.clone())
            };
            check(&spec.name, dot(&grad, &grad).sqrt(), shifted(step), shifted(-step));
        }
    }
}

/// Every coupling starts as the identity, so that the start is the standard normal: to rounding in a sum of d squares.
#[test]
fn the_start_is_the_standard_normal() {
    for table in small().into_iter().chain(large()).filter(|table| !table.contains("logit")) {
        let model = start(&table, &cpu());
        let dim = model.dim() as f64;
        let x = normals(5, 6, model.dim(), &cpu());
        let square = download((x.clone() * x.clone()).sum_dim(1));
        for (u, square) in download(model.energy(x)).into_iter().zip(square) {
            let exact = 0.5 * f64::from(square) + 0.5 * dim * (2.0 * std::f64::consts::PI).ln();
            assert!((f64::from(u) - exact).abs() < 1e-6 * exact, "{table}: {u} for {exact}");
        }
    }
}

/// The logit's own terms at the identity: `log ρ(x) = Σ log N(logit p) + log dz/dx` inside [−1, 1], and its tangent outside.
#[test]
fn the_logit_is_the_usual_one() {
    let alpha = 0.05;
    let model = start(&format!("shape = [1, 2, 2]\n{SCALES}\nlogit_alpha = {alpha}"), &cpu());
    let pixels = [-1.0f32, -0.3, 0.999, 0.5];
    let log_prob = |x: f64| {
        let p = alpha + (1.0 - 2.0 * alpha) * (x + 1.0) / 2.0;
        let slope = (1.0 - 2.0 * alpha) / 2.0 / (p * (1.0 - p));
        let z = (p / (1.0 - p)).ln();
        (z, slope, slope.ln() - 0.5 * z * z - 0.5 * (2.0 * std::f64::consts::PI).ln())
    };
    let exact: f64 = pixels.iter().map(|&x| log_prob(f64::from(x)).2).sum();
    let at = |x: [f32; 4]| {
        let x = Tensor::<2>::from_data(TensorData::new(x.to_vec(), [1, 4]), &cpu());
        f64::from(-download(model.energy(x))[0])
    };
    // Sums of a few numbers below 10, in single precision.
    assert!((at(pixels) - exact).abs() < 2e-5, "{} for {exact}", at(pixels));
    let (z, slope, inside) = log_prob(-1.0);
    let outside = z - 2.0 * slope;
    let exact =
        exact - inside + slope.ln() - 0.5 * outside * outside - 0.5 * (2.0 * std::f64::consts::PI).ln();
    assert!((at([-3.0, -0.3, 0.999, 0.5]) / exact - 1.0).abs() < 1e-5);
}

/// Moving one pixel of a square changes the scale and the shift of pixels of the other colour only, at the first coupling: it moves
/// the second half of the channels given the first.
#[test]
fn the_first_division_is_a_checkerboard() {
    let table = format!("shape = [1, 4, 4]\n{}", SCALES.replace("couplings = 2", "couplings = 1"));
    let model = trained(&table, &cpu());
    // The second coupling, by rows, is switched off.
    let theta = model.params().into_iter().zip(model.theta()).map(|(spec, tensor)| {
        if spec.name.contains("couplings.1.layers.2") { tensor.zeros_like() } else { tensor.clone() }
    });
    let theta = theta.collect();
    let model = model.with_theta(theta);
    let points = normals(9, 1, 16, &cpu());
    let moved = |pixel: usize| {
        let step = (0..16).map(|i| if i == pixel { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        let step = Tensor::<2>::from_data(TensorData::new(step, [1, 16]), &cpu());
        let change = inverse(&model, points.clone() + step).0 - inverse(&model, points.clone()).0;
        download(change).iter().filter(|&&v| v.abs() > 1e-6).count()
    };
    for pixel in 0..16 {
        let is_first_colour = (pixel / 4 + pixel % 4) % 2 == 0;
        // Itself, and the 8 pixels of the other colour where 3×3 convolutions of 2×2 squares see all.
        assert_eq!(moved(pixel), if is_first_colour { 9 } else { 1 }, "pixel {pixel}");
    }
}

/// Columns' means and variances. `rows: [n, dim]`.
fn moments(rows: Tensor<2>) -> Vec<(f64, f64)> {
    let [n, dim] = rows.dims();
    let rows = download(rows);
    let column = |j: usize| rows.iter().skip(j).step_by(dim).map(|&v| f64::from(v));
    (0..dim)
        .map(|j| {
            let mean = column(j).sum::<f64>() / n as f64;
            (mean, column(j).map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64)
        })
        .collect()
}

/// Rows with mean 40 and standard deviation 3 come out of the fitted start with mean 0 and variance 1; 10⁻⁴ is what f32 leaves of
/// 40 / 3. Nothing else in θ changes.
#[test]
fn act_norm_is_set_from_data() {
    let model = start(&format!("dim = 8\n{HALF}"), &cpu());
    assert!(model.has_data_init());
    let rows = normals(6, 500, 8, &cpu()).mul_scalar(3.0).add_scalar(40.0);
    let fitted = model.with_data_init(rows.clone());
    for (mean, variance) in moments(inverse(&fitted, rows.clone()).0) {
        assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-4, "{mean}, {variance}");
    }
    for ((spec, before), after) in model.params().iter().zip(model.host_theta()).zip(fitted.host_theta()) {
        assert!(spec.name.contains("act_norm") || before == after, "{}", spec.name);
    }
    // Away from the identity too: one coupling leaves its first half as act-norm gives it.
    let one = trained(&format!("dim = 8\n{}", HALF.replace("layers = 4", "layers = 1")), &cpu());
    let fitted = one.with_data_init(rows.clone());
    for (mean, variance) in &moments(inverse(&fitted, rows).0)[..4] {
        assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-4, "{mean}, {variance}");
    }
    let without = start(&format!("dim = 8\n{PARITY}"), &cpu());
    assert!(!without.has_data_init());
    assert_eq!(without.host_theta(), without.with_data_init(normals(6, 9, 8, &cpu())).host_theta());
}

/// A coordinate that never changes in the batch is scaled like one a thousandth as wide as the widest, not by infinity.
#[test]
fn a_constant_coordinate_is_not_blown_up() {
    let model = start(&format!("dim = 2\n{HALF}"), &cpu());
    let x: Vec<f32> = (0..20).flat_map(|i| [i as f32, -1.0]).collect();
    let rows = Tensor::<2>::from_data(TensorData::new(x, [20, 2]), &cpu());
    let found = moments(inverse(&model.with_data_init(rows.clone()), rows).0);
    assert!((found[0].1 - 1.0).abs() < 1e-4 && found[1] == (0.0, 0.0), "{found:?}");
    let still = Tensor::<2>::ones([20, 2], &cpu());
    let z = download(inverse(&model.with_data_init(still.clone()), still).0);
    assert!(z.iter().all(|&z| z == 0.0), "{z:?}");
}

const RUN: &str = r#"
steps = 3
[dataset]
kind = "gaussian_mixture"
dim = 4
means = [[-5.0], [20.0]]
weights = [0.5, 0.5]
train_size = 256
test_size = 8
batch_size = 64
[energy]
kind = "real_nvp"
layers = 2
hidden = [8]
act_norm = true
[walkers]
count = 32
[kernel]
kind = "mala"
step_size = 0.01
[objective]
kind = "jarzynski"
[optimizer]
kind = "adam"
learning_rate = 1e-3
"#;

/// A run sets act-norm from its first batch, starts its walkers at exact draws of that model, and knows that log Z is 0.
#[test]
fn a_run_starts_at_the_data_and_at_log_z_0() {
    let config = Config::from_toml(RUN, "test").expect("valid");
    assert!(config.has_exact_start());
    let mut trainer = Trainer::new(config, &cpu()).expect("starts");
    let shift = download(trainer.model.theta()[0].clone());
    // 64 rows around 7.5 with standard deviation 12.5 in the first coordinate, around 0 with 1 in the others: 4 standard errors.
    assert!((shift[0] - 7.5).abs() < 6.3 && shift[1..].iter().all(|s| s.abs() < 0.5), "{shift:?}");
    assert_eq!(trainer.model.log_z(), Some(0.0));
    let surprise = download(trainer.walkers.energy.clone());
    for _ in 0..3 {
        trainer.update(true).expect("finite");
    }
    assert_ne!(surprise, download(trainer.walkers.energy.clone()));
    assert_eq!(trainer.model.log_z(), Some(0.0));
}

/// The layer where a NaN or an infinity first shows is named, with what of it.
#[test]
fn the_first_layer_that_fails_is_named() {
    let table = format!("dim = 8\n{HALF}");
    let model = trained(&table, &cpu());
    let x = normals(7, 5, 8, &cpu());
    assert_eq!(model.first_non_finite_layer(x.clone()), None);
    let with = |name: &str, value: f32| {
        let place = model.params().iter().position(|spec| spec.name == name).expect(name);
        let mut theta = model.theta().to_vec();
        theta[place] = theta[place].full_like(value);
        model.with_theta(theta).first_non_finite_layer(x.clone())
    };
    let at = |layer, name: &str, quantity| Some(NonFinite { layer, name: name.into(), quantity });
    // Act-norm and coupling i are layers 2i and 2i + 1.
    let position = Quantity::Position;
    assert_eq!(with("couplings.2.layers.2.bias", f32::NAN), at(Some(5), "couplings.2", position));
    assert_eq!(
        with("couplings.1.act_norm.shift", f32::INFINITY),
        at(Some(2), "couplings.1.act_norm", position)
    );
    // e^{−a} is 0 here: only the log-determinant says that something is wrong.
    assert_eq!(
        with("couplings.0.act_norm.log_scale", f32::INFINITY),
        at(Some(0), "couplings.0.act_norm", Quantity::LogDet)
    );
    // Finite coordinates whose squares are not.
    assert_eq!(with("couplings.3.layers.2.bias", 1e30), at(None, "base", position));
    assert_eq!(model.first_non_finite_layer(x.mul_scalar(f32::NAN)), at(None, "input", position));
    let mlp = start("dim = 8\nkind = \"mlp\"\nhidden = [4]", &cpu());
    assert_eq!(mlp.first_non_finite_layer(normals(7, 5, 8, &cpu())), None);
}

/// A model made from its own tensors and metadata gives the same bits.
#[test]
fn files_keep_every_bit() {
    for table in small() {
        let model = trained(&table, &cpu());
        let spec = EnergySpec::from_metadata(&model.spec().to_metadata()).expect("its own metadata");
        assert_eq!(&spec, model.spec());
        let again = EnergyModel::from_tensors(spec, model.export(), &cpu()).expect("its own tensors");
        let x = normals(8, 3, model.dim(), &cpu());
        assert_eq!(download(model.energy(x.clone())), download(again.energy(x)), "{table}");
    }
}

#[test]
fn mistakes_are_named() {
    for (shape, table, words) in [
        ("dim = 1", HALF.to_owned(), "at least 2; found 1"),
        ("dim = 1", PARITY.to_owned(), "energy.mask"),
        ("dim = 3", HALF.to_owned(), "energy.mask = \"half\" needs an even number of coordinates, found 3"),
        ("dim = 4", HALF.replace("layers = 4", "layers = 0"), "energy.layers: 0 found"),
        (
            "dim = 4",
            HALF.replace("layers = 4", "layers = 1001"),
            "energy.layers: 1001 found, expected 1 to 1000",
        ),
        ("dim = 4", HALF.replace("[16, 16]", "[]"), "energy.hidden: []"),
        ("dim = 4", HALF.replace("[16, 16]", "[16, 0]"), "energy.hidden: [16, 0]"),
        ("dim = 4", format!("{HALF}\nlog_scale_bound = 0.0"), "energy.log_scale_bound: 0"),
        ("dim = 4", format!("{HALF}\nlog_scale_bound = nan"), "energy.log_scale_bound: NaN"),
        ("dim = 4", format!("{HALF}\nmask = \"thirds\""), "thirds"),
        ("dim = 4", format!("{HALF}\nmasks = \"half\""), "masks"),
        ("dim = 4", SPLINE.replace("bins = 5", "bins = 1"), "energy.bins: 1 found, expected at least 2"),
        ("dim = 4", SPLINE.replace("bound = 3.0", "bound = -3.0"), "energy.bound: -3"),
        ("dim = 4", format!("{SPLINE}\nmin_width = 0.2"), "energy.min_width: 0.2 is not below 0.2"),
        ("dim = 4", format!("{SPLINE}\nmin_height = 0.0"), "energy.min_height: 0"),
        ("dim = 4", format!("{SPLINE}\nmin_derivative = 1.0"), "energy.min_derivative: 1 is not below 1"),
        ("dim = 3", SPLINE.to_owned(), "energy.mask = \"half\""),
        ("dim = 8", SCALES.to_owned(), "needs images"),
        ("shape = [1, 6, 4]", SCALES.replace("levels = 1", "levels = 2"), "6 × 4 can be halved 1 times"),
        ("shape = [1, 5, 4]", SCALES.to_owned(), "energy.levels = 1"),
        ("shape = [1, 4, 4]", SCALES.replace("levels = 1", "levels = 0"), "energy.levels: 0 found"),
        ("shape = [1, 4, 4]", SCALES.replace("couplings = 2", "couplings = 0"), "energy.couplings: 0 found"),
        ("shape = [1, 4, 4]", SCALES.replace("channels = 6", "channels = 0"), "energy.channels: 0 found"),
        ("shape = [1, 4, 4]", format!("{SCALES}\nlogit_alpha = 0.5"), "energy.logit_alpha: 0.5"),
        ("shape = [1, 4, 4]", format!("{SCALES}\nlogit_alpha = 0.0"), "energy.logit_alpha: 0"),
        ("dim = 0", HALF.to_owned(), "dim = 0"),
    ] {
        let spec = EnergySpec::from_metadata(&format!("{shape}\n{table}"));
        let error = match spec {
            Ok(spec) => spec.build().expect_err(words).to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(words), "{words}: {error}");
    }
    let read =
        |kind: &str| EnergySpec::from_metadata(&format!("dim = 4\n{}", HALF.replace("real_nvp", kind)));
    assert_eq!(read("realnvp").expect("the other spelling"), read("real_nvp").expect("a flow"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any width, depth, mask and seed: the inverse is one, and its log-determinant the other's negative. 10⁻⁴ as above.
    #[test]
    fn any_real_nvp_is_a_bijection(
        dim in 2usize..20, layers in 1usize..5, parity: bool, act_norm: bool, lane in 0u32..1000,
    ) {
        let mask = if parity || dim % 2 == 1 { "checkerboard" } else { "half" };
        let table = format!(
            "dim = {dim}\nkind = \"real_nvp\"\nlayers = {layers}\nhidden = [8]\nmask = \"{mask}\"\nact_norm = {act_norm}"
        );
        let model = trained(&table, &cpu());
        let (position, log_det, _) = round_trips(&model, &normals(lane, 4, dim, &cpu()));
        prop_assert!(position <= 1e-4 && log_det <= 1e-4, "{table}: {position}, {log_det}");
    }
}
