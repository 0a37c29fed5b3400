//! Where flows start: the standard normal, or act-norm set from data; runs that start there; layers that fail, and mistakes.

use burn::tensor::{Tensor, TensorData};
use ember_model::flow::{NonFinite, Quantity};
use ember_model::params::download;
use ember_model::{Energy, EnergySpec};
use ember_tests::cpu;
use ember_tests::flows::{HALF, PARITY, SCALES, SPLINE, inverse, large, normals, small, start, trained};
use ember_train::config::Config;
use ember_train::training::trainer::Trainer;

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
