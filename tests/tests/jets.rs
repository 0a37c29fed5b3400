//! Jets: derivatives of an energy along a line, by forward mode, against central differences of the energy and of the jets.

use burn::tensor::{Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec};
use ember_tests::cpu;

const ROWS: usize = 7;
const CONV: &str = "shape = [2, 6, 6]\nkind = \"conv\"\nlayers = [{ out = 4, kernel = 3, padding = 1 }, { out = 6, kernel = 4, stride = 2 }, \
                    { out = 1, kernel = 2 }]\n";

/// Every energy that has jets, in each of its forms, and the derivatives it gives.
fn energies() -> Vec<(String, usize)> {
    let mlp = |more: &str| format!("dim = 3\nkind = \"mlp\"\nhidden = [16, 8]\n{more}");
    let mut found = vec![
        (
            "dim = 5\nkind = \"gaussian_mixture\"\nmeans = [[-1.0, 1.0], [0.5]]\nmeans_noise = 0.3"
                .to_owned(),
            2,
        ),
        ("dim = 2\nkind = \"gaussian_mixture\"\nmeans = [[0.5, 1.0]]".to_owned(), 2),
        (mlp("spectral_norm = true\nconfinement = 0.7"), 2),
        (mlp("confinement = 0.7\ntemperature = 0.5"), 2),
        (mlp("support = \"cube\""), 2),
        (mlp("confinement = 0.7\nlevels = [0.1, 1.0]"), 2),
        (format!("{CONV}confinement = 0.3"), 2),
        (format!("{CONV}base = \"gaussian\"\nactivation = \"softplus\""), 2),
        (format!("{CONV}spectral_norm = true\nactivation = \"leaky_relu\""), 1),
    ];
    for (activation, order) in
        [("silu", 2), ("tanh", 2), ("softplus", 2), ("gelu", 2), ("relu", 1), ("leaky_relu", 1)]
    {
        found.push((mlp(&format!("activation = \"{activation}\"\nconfinement = 0.7")), order));
    }
    found
}

/// A model whose every parameter is away from its starting zero.
fn model(metadata: &str) -> EnergyModel {
    let spec = EnergySpec::from_metadata(metadata).unwrap_or_else(|error| panic!("{error}\n{metadata}"));
    let model = EnergyModel::init(spec, 3, &cpu()).expect("it fits");
    let params = model.params();
    let moved = |(i, tensor): (usize, &Tensor<1>)| {
        let n = tensor.dims()[0];
        // A precision stays symmetric.
        let size = if params[i].name == "base.precision" { 0.0 } else { 0.3 };
        tensor.clone() + normals(n, 1, 100 + i as u32).reshape([n]).mul_scalar(size)
    };
    model.with_theta(model.theta().iter().enumerate().map(moved).collect())
}

fn normals(n: usize, dim: usize, lane: u32) -> Tensor<2> {
    let values = Stream::new(5, Purpose::Data).lane(lane).normals(n, dim);
    Tensor::from_data(TensorData::new(values, [n, dim]), &cpu())
}

fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    download(tensor).into_iter().map(f64::from).collect()
}

fn jet(model: &EnergyModel, x: &Tensor<2>, v: &Tensor<2>) -> [Vec<f64>; 3] {
    model.jet(x.clone(), v.clone()).expect("it has jets").map(numbers)
}

#[track_caller]
fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let scale = expected.iter().fold(1e-2, |a: f64, b| a.max(b.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < tolerance * scale, "{what}: {found:?} vs {expected:?}");
    }
}

/// `f′(0)` by central differences of fourth order.
fn slope(f: impl Fn(f32) -> Vec<f64>, h: f32) -> Vec<f64> {
    let [a, b, c, d] = [f(-2.0 * h), f(-h), f(h), f(2.0 * h)];
    let h = f64::from(h);
    (0..a.len()).map(|i| (a[i] - 8.0 * b[i] + 8.0 * c[i] - d[i]) / (12.0 * h)).collect()
}

/// The value is the energy's, the first derivative the gradient's along v, and the second one the slope of the first.
#[test]
fn jets_are_derivatives_along_the_line() {
    for (metadata, order) in energies() {
        let model = model(&metadata);
        let (x, v) = (normals(ROWS, model.dim(), 0), normals(ROWS, model.dim(), 1));
        let [value, first, second] = jet(&model, &x, &v);
        let (u, grad) = model.energy_and_grad(x.clone());
        close(&value, &numbers(u), 1e-5, &metadata);
        close(&first, &numbers((grad * v.clone()).sum_dim(1).squeeze_dim::<1>(1)), 1e-5, &metadata);
        assert_eq!(model.jet_order(), order, "{metadata}");
        let at = |t: f32| x.clone() + v.clone().mul_scalar(t);
        if order == 2 {
            close(&first, &slope(|t| numbers(model.energy(at(t))), 1e-2), 1e-3, &metadata);
            close(&second, &slope(|t| jet(&model, &at(t), &v)[1].clone(), 1e-2), 1e-3, &metadata);
        } else {
            // Between its kinks only the quadratic part of the energy bends.
            let c = model.confinement().unwrap_or(0.0);
            let square = numbers((v.clone() * v).sum_dim(1).squeeze_dim::<1>(1));
            close(&second, &square.iter().map(|s| c * s).collect::<Vec<_>>(), 1e-5, &metadata);
        }
    }
}

/// `∂_θ` of all three against central differences in θ, along a random direction of each parameter.
#[test]
fn jets_are_differentiable_in_the_parameters() {
    for (metadata, order) in energies() {
        let model = model(&metadata);
        let (x, v) = (normals(ROWS, model.dim(), 0), normals(ROWS, model.dim(), 1));
        // A difference of many kinked units steps over some kinks, which a derivative does not see.
        let last = if order == 1 && metadata.contains("conv") { 0 } else { order };
        for which in 0..=last {
            let total = |model: &EnergyModel| {
                let jet = model.jet(x.clone(), v.clone()).expect("it has jets");
                Ok::<_, ()>(jet[which].clone().sum())
            };
            let (grads, value) = model.differentiated(total).expect("no error");
            assert!((numbers(value)[0] - numbers(total(&model).expect("no error"))[0]).abs() < 1e-4);
            for (i, (grad, spec)) in grads.iter().zip(model.params()).enumerate() {
                let n = spec.len();
                let frozen = spec.name.starts_with("base.");
                let mut direction = normals(n, 1, 200 + i as u32).reshape([n]);
                if spec.name == "log_masses" {
                    // The first logit is frozen.
                    let free = (0..n).map(|k| if k == 0 { 0.0 } else { 1.0 }).collect::<Vec<f32>>();
                    direction = direction * Tensor::from_data(TensorData::new(free, [n]), &cpu());
                }
                let found = numbers((grad.clone() * direction.clone()).sum());
                if frozen {
                    assert_eq!(found, [0.0], "{metadata}: {}", spec.name);
                    continue;
                }
                let at = |t: f32| {
                    let mut theta = model.theta().to_vec();
                    theta[i] = theta[i].clone() + direction.clone().mul_scalar(t);
                    numbers(total(&model.with_theta(theta)).expect("no error"))
                };
                let (h, tolerance) = if order == 2 { (1e-2, 3e-3) } else { (1e-4, 3e-2) };
                let scale = numbers(grad.clone()).iter().fold(0.1, |a: f64, b| a.max(b.abs()));
                let expected = slope(at, h)[0];
                let what = format!("{metadata}: {}, derivative {which}", spec.name);
                assert!(
                    (found[0] - expected).abs() < tolerance * scale,
                    "{what}: {} vs {expected}",
                    found[0]
                );
            }
        }
    }
}

/// A direction that is scaled scales the first derivative once and the second one twice; far from all means nothing overflows.
#[test]
fn jets_scale_with_the_direction_and_hold_far_away() {
    for (metadata, _) in energies() {
        let model = model(&metadata);
        let (x, v) = (normals(ROWS, model.dim(), 0), normals(ROWS, model.dim(), 1));
        let [_, first, second] = jet(&model, &x, &v);
        let [_, thrice, nine] = jet(&model, &x, &v.clone().mul_scalar(3.0));
        close(&thrice, &first.iter().map(|f| 3.0 * f).collect::<Vec<_>>(), 1e-5, &metadata);
        close(&nine, &second.iter().map(|s| 9.0 * s).collect::<Vec<_>>(), 1e-4, &metadata);
        let far = jet(&model, &x.mul_scalar(1e4), &v);
        assert!(far.iter().flatten().all(|number| number.is_finite()), "{metadata}: {far:?}");
    }
}

/// Those that have none say so, and give none.
#[test]
fn energies_without_jets_say_so() {
    for text in [
        "dim = 4\nkind = \"rbm\"\nhidden = 3",
        "dim = 4\nkind = \"real_nvp\"\nlayers = 2\nhidden = [8]",
        "dim = 4\nkind = \"spline_flow\"\nlayers = 2\nhidden = [8]",
        "shape = [1, 4, 4]\nkind = \"resnet\"\nchannels = [4]\nconfinement = 1.0",
        "dim = 4\nkind = \"tilted\"\nbase = { kind = \"real_nvp\", layers = 2, hidden = [8] }\ntilt = { kind = \"mlp\", hidden = [8] }",
    ] {
        let model = model(text);
        assert_eq!(model.jet_order(), 0, "{text}");
        let x = normals(2, model.dim(), 0);
        assert!(model.jet(x.clone(), x).is_none(), "{text}");
    }
    assert!(EnergyConfig::KINDS.len() >= 8);
}
