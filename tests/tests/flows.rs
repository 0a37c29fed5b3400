//! Normalizing flows as maps: inverses, log-determinants, densities, draws, gradients and files, for every kind.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::flows::{SCALES, inverse, large, normals, small, start, trained};
use ember_tests::{assert_within_se, cpu, gpu, mean_se};
use faer::Mat;
use proptest::prelude::*;

/// Kinds on two coordinates, smooth: their densities can be integrated on a grid.
fn planar() -> Vec<String> {
    small().into_iter().filter(|table| table.starts_with("dim = 2")).collect()
}

fn forward(model: &EnergyModel, z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    model.flow().expect("a flow").forward(model.theta(), z)
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
            let mut jacobians = vec![Mat::<f64>::zeros(dim, dim); POINTS];
            for i in 0..dim {
                let at = at.clone().autodiff().require_grad();
                let mut tape = map(&model, at.clone()).0.narrow(1, i, 1).sum().backward();
                let row = download(at.grad_remove(&mut tape).expect("a gradient"));
                for (n, jacobian) in jacobians.iter_mut().enumerate() {
                    (0..dim).for_each(|j| jacobian[(i, j)] = f64::from(row[n * dim + j]));
                }
            }
            for (jacobian, found) in jacobians.into_iter().zip(found) {
                let exact = jacobian.determinant().abs().ln();
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
