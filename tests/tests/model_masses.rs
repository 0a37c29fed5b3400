//! What is read off a model against a known truth: grid KL, and masses by importance sampling from the truth.

use std::fs;
use std::path::Path;

use ember_model::EnergyModel;
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se};
use ember_train::commands::picture;
use ember_train::config::Config;
use ember_train::judging::eval::{Evaluation, evaluate};
use ember_train::judging::grid::EnergyGrid;
use ember_train::judging::masses::by_importance;
use ember_train::store::opened::Opened;
use ember_train::training::trainer::Trainer;

/// A run on a mixture of two modes in `dim` coordinates that has not begun.
fn trainer(dim: usize, dataset: &str, energy: &str, rest: &str) -> Trainer {
    let text = format!(
        "steps = 10\n[dataset]\nkind = \"gaussian_mixture\"\ndim = {dim}\n{dataset}\ntrain_size = 4000\ntest_size = 4000\n\
         [energy]\n{energy}\n{rest}\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.1\n"
    );
    Trainer::new(Config::from_toml(&text, "test").unwrap_or_else(|e| panic!("{e}\n{text}")), &cpu())
        .expect("starts")
}

const WALKERS: &str =
    "[walkers]\ncount = 200\n[kernel]\nkind = \"ula\"\nstep_size = 0.1\n[objective]\nkind = \"jarzynski\"";
const FLOW: &str = "[objective]\nkind = \"maximum_likelihood\"";

fn judged(trainer: Trainer) -> Evaluation {
    let subject = Opened {
        ema: None,
        model: trainer.model,
        step: 0,
        config: Some(trainer.config),
        walkers: None,
        audit: None,
        proposal_flows: Vec::new(),
        step_size: None,
        own_numbers: Vec::new(),
        doubts: Vec::new(),
        run: None,
    };
    evaluate(&subject, 8, 0).expect("judged")
}

/// Both densities Gaussian: `KL(N(a, s²) ‖ N(m, 1)) = ½ (2 s² + |a − m|² − 2 − 2 log s²)` in the plane.
#[test]
fn the_grid_kl_is_that_of_two_gaussians() {
    let dataset = "means = [[0.4, -0.3]]\nweights = [1.0]\nstd = 0.7";
    let found = judged(trainer(2, dataset, "kind = \"gaussian_mixture\"\nmeans = [[1.0, 0.5]]", WALKERS));
    let (gap, variance) = (0.6f64.powi(2) + 0.8f64.powi(2), 0.49f64);
    let exact = 0.5 * (2.0 * variance + gap - 2.0 - 2.0 * variance.ln());
    let reverse = 0.5 * (2.0 / variance + gap / variance - 2.0 + 2.0 * variance.ln());
    let (grid, held_out) = (found.kl_grid.expect("a plane"), found.kl.expect("a truth"));
    println!("grid {grid:.6}, exact {exact:.6}, held out {held_out:?}, the other way round {reverse:.3}");
    assert!((grid - exact).abs() < 1e-4, "{grid} {exact}");
    assert!((reverse - exact).abs() > 0.1, "the direction shows");
    assert_within_se(held_out.value, exact, held_out.standard_error, 4.0);
    let json = serde_json::to_value(judged(trainer(
        3,
        dataset,
        "kind = \"gaussian_mixture\"\nmeans = [[1.0]]",
        WALKERS,
    )));
    assert!(json.expect("JSON").get("kl_grid").is_none(), "no grid in space");
}

/// A model equal to the truth has no KL, and one that lacks support anywhere has a finite one.
#[test]
fn the_grid_kl_of_the_truth_itself_is_zero() {
    let dataset = "means = [[-2.0, 0.0], [2.0, 0.0]]\nweights = [0.5, 0.5]";
    let energy = "kind = \"gaussian_mixture\"\nmeans = [[-2.0, 0.0], [2.0, 0.0]]\nmeans_noise = 0.0";
    let found = judged(trainer(2, dataset, energy, WALKERS)).kl_grid.expect("a plane");
    assert!(found.abs() < 1e-6, "{found}");
    let toy = "steps = 10\n[dataset]\nkind = \"toy2d\"\nname = \"checkerboard\"\ntrain_size = 2000\ntest_size = 2000\n\
               [energy]\nkind = \"gaussian_mixture\"\nmeans = [[0.0, 0.0]]\nmeans_noise = 0.0\n[optimizer]\nkind = \"sgd\"\n\
               learning_rate = 0.1\n";
    let config = Config::from_toml(&format!("{toy}{WALKERS}"), "test").expect("right");
    let found = judged(Trainer::new(config, &cpu()).expect("starts"));
    // Against N(0, I): −log 32 + ½ E|x|² + log 2π, with E x² = 16/3 in each coordinate.
    let exact = -32f64.ln() + 16.0 / 3.0 + std::f64::consts::TAU.ln();
    let grid = found.kl_grid.expect("a plane");
    // Cells on the edges of squares are counted whole or not at all: a grid of 400 is off by 1 % there.
    assert!((grid - exact).abs() < 0.05, "{grid} {exact}");
    assert_eq!(found.mode_weights.expect("squares").len(), 8);
}

const FAR: &str = "means = [[-1.0], [1.5]]\nweights = [0.3, 0.7]";

/// By importance against the exact masses of a mixture in 16 dimensions; the truth's own masses would be seen to be wrong.
#[test]
fn importance_masses_are_the_models() {
    let dataset = "means = [[-4.0], [4.0]]\nweights = [0.3, 0.7]";
    let energy = "kind = \"gaussian_mixture\"\nmeans = [[-3.8], [4.1]]\nmeans_noise = 0.05";
    let trainer = trainer(16, dataset, energy, WALKERS);
    let truth = trainer.config.dataset.as_dyn().truth().expect("a mixture");
    let modes = truth.modes.clone().expect("two");
    let found = by_importance(&trainer.model, &truth, &modes, 3);
    let errors = found.masses.standard_error.clone().expect("an estimate");
    println!("masses {:?} ± {errors:?}, ess fraction {:.3}", found.masses.value, found.ess_fraction);
    // Modes of masses ½, and 4 standard deviations from the border between them.
    for k in 0..2 {
        assert!(errors[k] < 0.01, "{errors:?}");
        assert_within_se(found.masses.value[k], 0.5, errors[k] + 1e-4, four_se(16));
        assert_beyond_se(found.masses.value[k], truth.masses[k], errors[k], 10.0);
    }
    assert!(found.ess_fraction > 0.1 && found.ess_fraction < 1.0, "{}", found.ess_fraction);
    let again = by_importance(&trainer.model, &truth, &modes, 3);
    assert_eq!(found.masses.value, again.masses.value);
    assert_ne!(found.masses.value, by_importance(&trainer.model, &truth, &modes, 4).masses.value);
    // A model elsewhere leaves no weights to speak of, and the ess says so.
    let far = moved(&trainer.model, 3.0);
    let found = by_importance(&far, &truth, &modes, 3);
    assert!(found.ess_fraction < 0.01, "{}", found.ess_fraction);
}

/// The model with all its means moved along the diagonal.
fn moved(model: &EnergyModel, by: f32) -> EnergyModel {
    let theta = model.theta().iter().zip(model.params());
    model.with_theta(
        theta
            .map(|(t, param)| if param.name == "means" { t.clone().add_scalar(by) } else { t.clone() })
            .collect(),
    )
}

/// A flow beyond the plane has neither a grid nor independent walkers: its masses are had all the same.
#[test]
fn a_plain_flow_in_space_has_masses() {
    let flow = "kind = \"real_nvp\"\nlayers = 4\nhidden = [16]";
    let found = judged(trainer(4, FAR, flow, FLOW));
    assert_eq!(found.mode_weights_method, Some("importance"));
    assert_eq!(found.mode_weights, found.mode_weights_importance);
    assert_eq!(found.mode_weights_standard_error, found.mode_weights_importance_standard_error);
    let (masses, errors) =
        (found.mode_weights.expect("masses"), found.mode_weights_standard_error.expect("errors"));
    // Near the identity: N(0, I), whose mass left of the border at .25 is Φ(.25).
    println!("{masses:?} ± {errors:?}, ess fraction {:?}", found.mode_weights_importance_ess_fraction);
    assert_within_se(masses[0], 0.598_7, errors[0] + 5e-4, four_se(16));
    assert_beyond_se(masses[0], 0.3, errors[0], 10.0);
    // In the plane the grid knows better, and a mixture is exact.
    let found = judged(trainer(2, FAR, flow, FLOW));
    assert_eq!((found.mode_weights_method, found.mode_weights_importance), (Some("grid"), None));
    let found = judged(trainer(4, FAR, "kind = \"gaussian_mixture\"\nmeans = [[0.0], [0.1]]", WALKERS));
    assert_eq!((found.mode_weights_method, found.mode_weights_importance), (Some("exact"), None));
    // Independent walkers come first, and importance stands beside them.
    let network = "kind = \"mlp\"\nhidden = [8]\nconfinement = 1.0";
    let mut run = trainer(4, FAR, network, WALKERS);
    // Away from the start, whose last layer is zero and whose log Z is known.
    run.model = run.model.with_theta(run.model.theta().iter().map(|t| t.clone().add_scalar(0.3)).collect());
    let found = judged(run);
    assert_eq!(found.mode_weights_method, Some("smc"));
    let first = |values: Option<Vec<f64>>| values.expect("two modes")[0];
    let (smc, smc_error) = (first(found.mode_weights), first(found.mode_weights_standard_error));
    let (mass, error) =
        (first(found.mode_weights_importance), first(found.mode_weights_importance_standard_error));
    println!("smc {smc:.4} ± {smc_error:.4}, importance {mass:.4} ± {error:.4}");
    assert!((smc - mass).abs() <= four_se(8) * smc_error + four_se(16) * error, "{smc} {mass}");
}

/// Masses on the grid by rings: those of the energy's own law, not the data's.
#[test]
fn masses_by_rings_are_read_off_the_grid() {
    let config = "steps = 10\n[dataset]\nkind = \"toy2d\"\nname = \"circles\"\ntrain_size = 2000\ntest_size = 100\n[energy]\n\
                  kind = \"real_nvp\"\nlayers = 2\nhidden = [8]\n[optimizer]\nkind = \"sgd\"\nlearning_rate = 0.1\n";
    let config = Config::from_toml(&format!("{config}{FLOW}"), "test").expect("right");
    let trainer = Trainer::new(config, &cpu()).expect("starts");
    let truth = trainer.config.dataset.as_dyn().truth().expect("known");
    let grid = EnergyGrid::new(&trainer.model, vec![(-7.0, 7.0); 2], 400).expect("a plane");
    // N(0, I): P(|x| > 2.25) = e^{−2.25²/2}.
    let masses = grid.masses(&truth.modes.expect("rings"));
    assert!((masses[0] - (-0.5 * 2.25f64.powi(2)).exp()).abs() < 2e-3, "{masses:?}");
}

/// The pixels of a panel's axes: upper row, left or right.
fn heat_map(path: &Path, right: bool) -> Vec<[u8; 3]> {
    let image = image::open(path).expect("a picture").to_rgb8();
    assert_eq!(image.dimensions(), (1376, 1344));
    let left = if right { 640 } else { 0 } + 110;
    (0..480 * 480).map(|i| image.get_pixel(left + i % 480, 150 + i / 480).0).collect()
}

/// Truth and model stand on one scale: equal where they are one law, different where they are not.
#[test]
fn heat_maps_of_truth_and_model_are_on_one_scale() {
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = "means = [[-2.0, 0.0], [2.0, 0.0]]\nweights = [0.5, 0.5]";
    let energy = "kind = \"gaussian_mixture\"\nmeans = [[-2.0, 0.0], [2.0, 0.0]]\nmeans_noise = 0.0";
    let mut run = trainer(2, dataset, energy, WALKERS);
    let path = picture::samples(&run, folder.path()).expect("drawn");
    let apart = |path: &Path| {
        let pairs = heat_map(path, false).into_iter().zip(heat_map(path, true));
        pairs.filter(|(a, b)| (0..3).any(|c| a[c].abs_diff(b[c]) > 3)).count()
    };
    let colours = heat_map(&path, false).into_iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(colours > 200, "{colours} colours");
    assert_eq!(apart(&path), 0);
    run.model = moved(&run.model, 0.3);
    let path = picture::samples(&run, folder.path()).expect("drawn");
    assert!(apart(&path) > 10_000, "{} pixels differ", apart(&path));
    assert_eq!(fs::read_dir(folder.path().join("samples")).expect("there").count(), 1);
}
