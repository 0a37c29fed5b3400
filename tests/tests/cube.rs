//! Models on the cube `[−1, 1]^d`: no density outside, on grids, in masses and for data.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::blockwise::energies;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::shape::Support;
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se};
use ember_train::config::Config;
use ember_train::dataset::{Modes, Truth};
use ember_train::error::Error;
use ember_train::judging::grid::EnergyGrid;
use ember_train::judging::masses;
use ember_train::training::trainer::Trainer;

fn config(dim: usize, means: &str, std: f64) -> Config {
    let text = format!(
        "steps = 1\n[dataset]\nkind = \"gaussian_mixture\"\ndim = {dim}\nmeans = {means}\nweights = [0.5, 0.5]\nstd = {std}\n\
         train_size = 200\ntest_size = 100\n[energy]\nkind = \"mlp\"\nhidden = [8]\nconfinement = 1.0\n[walkers]\ncount = 20\n\
         [kernel]\nkind = \"mala\"\nstep_size = 0.1\nboundary = \"reflect\"\n[objective]\nkind = \"jarzynski\"\n[optimizer]\n\
         kind = \"sgd\"\nlearning_rate = 0.1\n"
    );
    Config::from_toml(&text, "c.toml").expect("a config")
}

fn start(dim: usize) -> Trainer {
    Trainer::new(config(dim, "[[-0.5], [0.5]]", 0.05), &cpu()).expect("inside")
}

/// A network's start is the Gaussian cut to the cube, whose log Z is known.
#[test]
fn a_grid_stays_in_the_cube() {
    for dim in [1, 2] {
        let model = start(dim).model;
        let exact = Energy::log_z(&model).expect("a cut Gaussian");
        for range in [(-5.0, 5.0), (-0.999, 9.0), (-1.0, 1.0)] {
            let grid = EnergyGrid::new(&model, vec![range; dim], 400).expect("at most two dimensions");
            assert!((grid.log_z() - exact).abs() < 2e-3, "{dim}, {range:?}: {} for {exact}", grid.log_z());
        }
    }
}

#[test]
fn energies_outside_the_cube_are_infinite() {
    let model = start(2).model;
    let found = energies(&model, &[0.0, 0.5, 1.0, -1.0, 1.001, 0.0, 0.0, f32::NAN]);
    let plain = |x: [f32; 2]| {
        let x = burn::tensor::Tensor::<2>::from_floats([x], &cpu());
        download(EnergyModel::energy(&model, x))[0]
    };
    assert_eq!(found[..2], [plain([0.0, 0.5]), plain([1.0, -1.0])]);
    assert_eq!(found[2..], [f32::INFINITY; 2]);
}

/// Draws of the law that lie outside the cube weigh nothing: the mass of a mode is that of the Gaussian cut to the cube, not of all of it.
#[test]
fn masses_by_importance_leave_out_what_is_outside() {
    let model = start(2).model;
    let wide = config(2, "[[0.0, 0.0], [0.7, 0.0]]", 0.8);
    let truth: Truth = wide.dataset.as_dyn().truth().expect("a known law");
    let modes: &Modes = truth.modes.as_ref().expect("two modes");
    let found = masses::by_importance(&model, &truth, modes, 1);
    // Beyond the middle of the centres, x = .35, by the midpoint rule.
    let mass = |from: f64, to: f64| -> f64 {
        let x = |i: i32| from + (to - from) * (f64::from(i) + 0.5) / 4_000.0;
        (0..4_000).map(|i| (-0.5 * x(i).powi(2)).exp()).sum::<f64>() * (to - from)
    };
    let (exact, whole) = (mass(0.35, 1.0) / mass(-1.0, 1.0), mass(0.35, 9.0) / mass(-9.0, 9.0));
    let (value, error) = (found.masses.value[1], found.masses.standard_error.expect("estimated")[1]);
    println!(
        "{value:.4} ± {error:.4} for {exact:.4}; of the whole plane {whole:.4}, Pareto k {:.2}",
        found.pareto_k
    );
    assert_within_se(value, exact, error, four_se(16));
    assert_beyond_se(value, whole, error, 10.0);
}

#[test]
fn data_outside_the_cube_are_refused_with_row_and_coordinate() {
    let Err(error) = Trainer::new(config(3, "[[-0.5], [0.0, 1.4]]", 0.05), &cpu()) else {
        panic!("half of the rows are outside")
    };
    assert!(matches!(error, Error::Usage { .. }) && error.exit_code() == 2, "{error}");
    let text = error.to_string();
    for word in [
        "coordinate 1 of row ",
        "of the training set is 1.",
        "cube [−1, 1]^3",
        " of 200 rows",
        "kernel.boundary",
    ] {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

/// At a temperature and on the cube the last move's pass serves the gradient in θ too, divided by T.
#[test]
fn passes_are_kept_at_a_temperature_and_on_the_cube() {
    let energy = || -> EnergyConfig {
        toml::from_str("kind = \"mlp\"\nhidden = [8, 8]\nconfinement = 1.0").expect("an energy")
    };
    let plain = EnergySpec::new(SampleShape::Flat(2), energy());
    let warm = EnergySpec { temperature: 0.5, ..plain.clone() };
    let walled = EnergySpec { support: Support::Cube, temperature: 2.0, ..plain.clone() };
    for spec in [plain, warm, walled] {
        let model = EnergyModel::init(spec, 3, &cpu()).expect("a network");
        let model = model.with_theta(model.theta().iter().map(|t| t.clone().add_scalar(0.1)).collect());
        let rows = Stream::new(1, Purpose::Start).uniforms(40, 2);
        let x = Tensor::<2>::from_data(TensorData::new(rows, [40, 2]), &cpu());
        let weights = Tensor::<1>::from_data(
            TensorData::new(Stream::new(2, Purpose::Start).normals(40, 1), [40]),
            &cpu(),
        );
        let (u, grad, pass) = model.keeping().energy_and_grad_kept(x.clone());
        let (plain_u, plain_grad) = model.energy_and_grad(x.clone());
        assert_eq!((download(u), download(grad)), (download(plain_u), download(plain_grad)));
        let kept = pass.expect("an MLP on the CPU keeps its pass").weighted_param_grads(&weights);
        let found = model.weighted_param_grads(&[(x, weights)]).grads;
        for (kept, found) in kept.into_iter().zip(found) {
            let worst =
                download((kept - found.clone()).abs().max())[0] / (1.0 + download(found.abs().max())[0]);
            assert!(worst < 1e-5, "{:?}: {worst}", model.spec().temperature);
        }
    }
}
