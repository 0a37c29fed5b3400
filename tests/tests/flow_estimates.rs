//! log Z by a flow: importance and bridge sampling find the exact value within their standard errors, their intervals cover it as
//! often as they say, and the well-known mistakes do not.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::evidence::Ensembles;
use ember_sampler::evidence::{FlowEstimate, FlowOptions, bridge, bridged, importance};
use ember_sampler::statistics::{log_mean_z, t95};
use ember_sampler::{FlowProposal, Walkers};
use ember_tests::flows::{self, HALF};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};
use ember_train::judging::estimator::Estimator;
use ember_train::judging::eval_options::EvalOptions;
use ember_train::judging::grid::EnergyGrid;
use ember_train::judging::log_z::log_z;

/// Repeats where one estimate is looked at.
const REPEATS: usize = 32;
/// Repeats of `ember eval` unless told otherwise.
const USUAL: usize = 8;

/// Modes at `means`, on all coordinates of the plane.
fn mixture(means: &[f64]) -> EnergyModel {
    let energy = EnergyConfig::GaussianMixture(GaussianMixture {
        means: means.iter().map(|&mean| vec![mean]).collect(),
        means_noise: 0.0,
        train_means: true,
        logit_learning_rate_scale: 1.0,
    });
    let model =
        EnergyModel::init(EnergySpec::new(SampleShape::Flat(2), energy), 0, &cpu()).expect("a mixture");
    // Masses that are not equal, and a log Z that is not a multiple of ln 2π.
    let logits = (0..means.len()).map(|k| 0.3 + 0.8 * k as f32).collect();
    model.with_theta(vec![model.theta()[0].clone(), upload(logits, &cpu())])
}

/// A flow away from the identity whose draws are spread as rows of standard deviation `std` make its act-norm.
fn wide_flow(std: f64) -> FlowProposal {
    let flow = flows::trained(&format!("dim = 2\n{HALF}"), &cpu());
    let rows = flows::normals(21, 2_000, 2, &cpu()).mul_scalar(std);
    FlowProposal::of(&flow.with_data_init(rows)).expect("a flow")
}

fn options(repeats: usize, draws: usize, seed: u64) -> FlowOptions {
    FlowOptions { repeats, draws, seed }
}

/// Weighted samples of a mixture, `count` in each repeat: draws of `N(0, std²)` with their importance weights.
fn weighted_samples(model: &EnergyModel, std: f64, (repeats, count): (usize, usize), seed: u64) -> Ensembles {
    let n = repeats * count;
    let z = Tensor::<2>::from_data(
        TensorData::new(Stream::new(seed, Purpose::Start).normals(n, 2), [n, 2]),
        &cpu(),
    );
    let log_q = (z.clone() * z.clone()).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(-0.5);
    let mut walkers = Walkers::new(model, z.mul_scalar(std), 0.0);
    walkers.log_weights = walkers.log_weights.accumulate(walkers.energy.clone().neg() - log_q);
    Ensembles::new(walkers, repeats, 0)
}

/// Exact draws, `count` in each repeat.
fn exact_samples(model: &EnergyModel, count: usize, seed: u64) -> Ensembles {
    let n = REPEATS * count;
    let x = model.draw(n, Stream::new(seed, Purpose::Start)).expect("it can be drawn");
    let walkers = Walkers::new(model, Tensor::from_data(TensorData::new(x, [n, 2]), &cpu()), 0.0);
    Ensembles::new(walkers, REPEATS, 0)
}

fn check(name: &str, found: &FlowEstimate, exact: f64) {
    println!("{name}: {:?}, exact {exact:.4}, nearness {:.3}", found.log_z, found.nearness);
    assert_within_se(found.log_z.value, exact, found.log_z.standard_error, four_se(REPEATS));
    // A test that could not see 5 % of Z would prove nothing.
    assert!(found.log_z.standard_error < 0.0125, "{:?}", found.log_z);
    assert!(!found.doubtful && !found.withheld);
    assert!(found.pareto_k.is_none_or(|k| k < 0.5), "{:?}", found.pareto_k);
}

/// One Gaussian and two modes with unequal masses, from a wide flow that knows neither.
#[test]
fn known_log_z_is_found() {
    for means in [&[1.0][..], &[-2.0, 2.5]] {
        let (model, flow) = (mixture(means), wide_flow(3.0));
        let exact = model.log_z().expect("a mixture");
        check("importance", &importance(&model, &flow, options(REPEATS, 5_000, 1)).expect("found"), exact);
        let from =
            |samples: &Ensembles| bridge(&model, &flow, samples, options(REPEATS, 3_000, 2)).expect("found");
        check("bridge, exact draws", &from(&exact_samples(&model, 500, 3)), exact);
        check("bridge, weighted samples", &from(&weighted_samples(&model, 3.0, (REPEATS, 5_000), 4)), exact);
    }
}

/// 95 % intervals cover the exact value .92 to .98 of the time (ALGORITHMS 9).
#[test]
fn intervals_cover_the_exact_log_z() {
    let runs = 400;
    let (model, flow) = (mixture(&[-1.5, 1.5]), wide_flow(2.5));
    let exact = model.log_z().expect("a mixture");
    let covers = |found: &FlowEstimate| {
        (found.log_z.value - exact).abs() <= t95(USUAL - 1) * found.log_z.standard_error
    };
    let (mut by_importance, mut by_bridge) = (Vec::new(), Vec::new());
    for seed in 0..runs {
        by_importance.push(importance(&model, &flow, options(USUAL, 200, seed)).expect("found"));
        let samples = weighted_samples(&model, 2.5, (USUAL, 300), seed);
        by_bridge.push(bridge(&model, &flow, &samples, options(USUAL, 200, seed)).expect("found"));
    }
    for (name, found) in [("importance", by_importance), ("bridge", by_bridge)] {
        let fraction = found.iter().filter(|found| covers(found)).count() as f64 / runs as f64;
        let (error, se) = mean_se(&found.iter().map(|found| found.log_z.value - exact).collect::<Vec<_>>());
        println!("{runs} runs by {name}: coverage {fraction:.3}, mean error of log Z {error:+.4} ± {se:.4}");
        assert!((0.92..=0.98).contains(&fraction), "{name}: {fraction}");
        // Both are biased by the order of 1/n, in a logarithm that is half its variance: within a standard error of 400 runs.
        assert_within_se(error, 0.0, se, 4.0);
    }
}

/// `log l` at draws of the flow, with the sign of its `log |det|` right or wrong.
fn written_out(model: &EnergyModel, flow: &FlowProposal, sign: f64, lane: u32) -> Vec<f64> {
    let z = flows::normals(lane, 4_000, 2, &cpu());
    let (x, log_det) = flow.forward(z.clone());
    let log_q = ember_model::flow::standard_normal(z) - log_det.mul_scalar(sign);
    let pairs = download(model.energy(x)).into_iter().zip(download(log_q));
    pairs.map(|(u, log_q)| -f64::from(u) - f64::from(log_q)).collect()
}

/// A test of the test: importance sampling written out agrees, with the sign of `log |det|` wrong it does not.
#[test]
fn a_wrong_sign_of_log_det_is_seen() {
    let (model, flow) = (mixture(&[-1.5, 1.5]), wide_flow(2.5));
    let exact = model.log_z().expect("a mixture");
    let by = |sign: f64| {
        let one = |r: u32| log_mean_z(&written_out(&model, &flow, sign, 100 + r)).value;
        mean_se(&(0..32).map(one).collect::<Vec<_>>())
    };
    let ((right, se), (wrong, wrong_se)) = (by(1.0), by(-1.0));
    println!("exact {exact:.4}: {right:.4} ± {se:.4}, with the wrong sign {wrong:.4} ± {wrong_se:.4}");
    assert_within_se(right, exact, se, four_se(32));
    assert_beyond_se(wrong, exact, wrong_se, 10.0);
}

/// Meng and Wong's iteration (1996) written out, with sizes `n₁` and `n₂`.
fn iterated(at_flow: &[f64], at_model: &[f64], sizes: (f64, f64)) -> f64 {
    let (s1, s2) = (sizes.0 / (sizes.0 + sizes.1), sizes.1 / (sizes.0 + sizes.1));
    let mut r = 1.0f64;
    for _ in 0..2_000 {
        let top: f64 = at_flow.iter().map(|l| l.exp() / (s2 * l.exp() / r + s1)).sum();
        let bottom: f64 = at_model.iter().map(|l| (s2 * l.exp() / r + s1).recip()).sum();
        r = top / at_flow.len() as f64 / (bottom / at_model.len() as f64);
    }
    r.ln()
}

/// The root of Geyer's score, whose classes are `n₁` draws of the flow and `n₂` samples of the model, with `log(n₂/n₁)` left out.
fn sizes_ignored(at_flow: &[f64], at_model: &[f64]) -> f64 {
    let sigmoid = |x: f64| (1.0 + (-x).exp()).recip();
    let (mut low, mut high) = (-50.0, 50.0);
    for _ in 0..60 {
        let c = 0.5 * (low + high);
        let flow: f64 = at_flow.iter().map(|l| sigmoid(l - c)).sum();
        let model: f64 = at_model.iter().map(|l| sigmoid(c - l)).sum();
        if flow > model { low = c } else { high = c }
    }
    0.5 * (low + high)
}

/// The root of the score is the fixed point of the iteration; unequal sizes that are ignored move it by `log(n₂/n₁)`.
#[test]
fn the_bridge_is_the_fixed_point() {
    let (model, flow) = (mixture(&[-1.5, 1.5]), wide_flow(2.5));
    let exact = model.log_z().expect("a mixture");
    let mut broken = Vec::new();
    for lane in 0..16 {
        let at_flow = written_out(&model, &flow, 1.0, 200 + lane);
        let x = model.draw(1_000, Stream::new(u64::from(lane), Purpose::Start)).expect("draws");
        let x = Tensor::from_data(TensorData::new(x, [1_000, 2]), &cpu());
        let log_q = download(flow.log_prob(x.clone()));
        let pairs = download(model.energy(x)).into_iter().zip(log_q);
        let at_model: Vec<f64> = pairs.map(|(u, log_q)| -f64::from(u) - f64::from(log_q)).collect();
        let found = bridged(&at_flow, &at_model, &[1e-3; 1_000]);
        let reference = iterated(&at_flow, &at_model, (4_000.0, 1_000.0));
        assert!((found.log_z - reference).abs() < 1e-9, "{found:?} for {reference}");
        assert!((0.0..=1.0).contains(&found.overlap), "{found:?}");
        broken.push(sizes_ignored(&at_flow, &at_model));
    }
    let (wrong, se) = mean_se(&broken);
    assert_beyond_se(wrong, exact, se, 10.0);
    // The same density at both ends overlaps wholly, and r = 1 whatever the sizes.
    let same = bridged(&[0.0; 10], &[0.0; 500], &[0.002; 500]);
    assert!(same.log_z.abs() < 1e-9 && (same.overlap - 1.0).abs() < 1e-9, "{same:?}");
    assert!(bridged(&[f64::NEG_INFINITY; 4], &[0.0; 2], &[0.5; 2]).log_z.is_nan());
}

/// Samples whose weights are dropped are no samples of the model.
#[test]
fn weights_left_out_are_seen() {
    let (model, flow) = (mixture(&[-2.0, 2.5]), wide_flow(3.0));
    let exact = model.log_z().expect("a mixture");
    let mut samples = weighted_samples(&model, 3.0, (REPEATS, 1_000), 5);
    samples.walkers = samples.walkers.unweighted();
    let found = bridge(&model, &flow, &samples, options(REPEATS, 1_000, 6)).expect("found").log_z;
    assert_beyond_se(found.value, exact, found.standard_error, 10.0);
}

const TILTED: &str = r#"
kind = "tilted"
dim = 2
[base]
kind = "real_nvp"
layers = 4
hidden = [16, 16]
act_norm = true
[tilt]
kind = "mlp"
hidden = [16]
"#;

/// A flow spread over four units with a tilt on it that varies by several; `size` 0 is the base alone.
fn tilted(size: f32) -> EnergyModel {
    let model =
        EnergyModel::init(EnergySpec::from_metadata(TILTED).expect("valid"), 3, &cpu()).expect("fits");
    let base = wide_flow(2.0);
    let model = model.with_base(base.model().theta());
    let theta = model.params().into_iter().zip(model.host_theta()).enumerate().map(|(i, (spec, values))| {
        if !spec.name.starts_with("tilt.") {
            return upload(values, &cpu());
        }
        let noise = Stream::new(13, Purpose::Init).lane(i as u32).normals(1, values.len());
        upload(values.into_iter().zip(noise).map(|(v, z)| v + size * z).collect(), &cpu())
    });
    model.with_theta(theta.collect())
}

/// An audit as it is after training: draws of the base, reweighted to the model.
fn audit_of(model: &EnergyModel, count: usize) -> Ensembles {
    let base = model.flow_part().expect("a base");
    let n = USUAL * count;
    let x = base.draw(n, Stream::new(8, Purpose::Start)).expect("a flow");
    let walkers = Walkers::new(&base, Tensor::from_data(TensorData::new(x, [n, 2]), &cpu()), 0.0);
    Ensembles::new(walkers, USUAL, 1)
}

/// All four estimators agree with the integral over a grid on a tilt that is not small, and annealing starts at the flow.
#[test]
fn four_estimators_agree_on_a_tilted_flow() {
    let model = tilted(0.35);
    let grid = EnergyGrid::new(&model, vec![(-16.0, 16.0); 2], 600).expect("the plane");
    let exact = grid.log_z();
    let wider = EnergyGrid::new(&model, vec![(-24.0, 24.0); 2], 600).expect("the plane").log_z();
    assert!((exact - wider).abs() < 1e-3, "the grid holds the mass: {exact}, {wider}");
    let flow = FlowProposal::of(&model).expect("its base");
    let tilt = model.tilt_part().expect("a tilt");
    let x = flow.sample(2_000, Stream::new(2, Purpose::Sample)).0;
    let (_, se) = mean_se(&download(tilt.energy(x)).into_iter().map(f64::from).collect::<Vec<_>>());
    let spread = se * 2_000f64.sqrt();
    println!("grid {exact:.4}; the tilt's standard deviation under the base is {spread:.2}");
    assert!(spread > 1.0, "a tilt that is not small: {spread}");
    let options =
        EvalOptions { repeats: USUAL, seed: 4, estimators: vec![Estimator::All], ..EvalOptions::default() };
    let found = log_z(&model, Some(&audit_of(&model, 4_000)), Some(&flow), &options).expect("found");
    assert_eq!(found.log_z.method, "audit");
    let methods: Vec<&str> = found.estimates.iter().map(|estimate| estimate.method).collect();
    assert_eq!(methods, ["audit", "smc", "importance", "bridge"]);
    for estimate in &found.estimates {
        println!("{estimate:?}");
        assert_within_se(estimate.value, exact, estimate.standard_error, four_se(USUAL));
        assert!(estimate.standard_error < 0.1 && !estimate.doubtful, "{estimate:?}");
    }
    // Without an audit tempered SMC is the model's, and the two that a flow gives stand beside it unasked.
    let plain = EvalOptions { estimators: Vec::new(), ..options };
    let found = log_z(&model, None, Some(&flow), &plain).expect("found");
    assert_eq!((found.log_z.method, found.estimates.len()), ("smc", 3));
}

/// The tilt is zero: log Z is 0 by definition, by every estimator, and SMC needs one temperature.
#[test]
fn a_flow_alone_has_log_z_zero() {
    let model = tilted(0.0);
    let flow = FlowProposal::of(&model).expect("its base");
    let options = EvalOptions { repeats: USUAL, estimators: vec![Estimator::All], ..EvalOptions::default() };
    let found = log_z(&model, Some(&audit_of(&model, 100)), Some(&flow), &options).expect("found");
    assert_eq!((found.log_z.method, found.log_z.value), ("exact", 0.0));
    assert_eq!(found.estimates.len(), 4);
    for estimate in &found.estimates {
        // What is left is the rounding of the flow's way back.
        assert!(estimate.value.abs() < 1e-5, "{estimate:?}");
    }
}

/// Where nothing else applies, importance sampling is the model's log Z; where nothing at all does, or an estimator that is named
/// cannot be had, it is said.
#[test]
fn what_cannot_be_had_is_said() {
    let bare = EnergySpec::from_metadata("kind = \"mlp\"\ndim = 2\nhidden = [8]").expect("valid");
    let bare = EnergyModel::init(bare, 0, &cpu()).expect("fits");
    let plain = EvalOptions { repeats: 4, ..EvalOptions::default() };
    let message = |estimators: &[Estimator], flow: Option<&FlowProposal>| {
        let options = EvalOptions { estimators: estimators.to_vec(), ..plain.clone() };
        let error = log_z(&bare, None, flow, &options).err().expect("it cannot be had");
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    assert!(message(&[], None).contains("a flow as its base"));
    assert!(message(&[Estimator::Importance], None).contains("--estimators importance"));
    assert!(message(&[Estimator::Smc], None).contains("energy.confinement > 0"));
    assert!(message(&[Estimator::Audit], None).contains("[audit]"));
    let flow = wide_flow(1.0);
    assert!(message(&[Estimator::Bridge], Some(&flow)).contains("samples of the model"));
    // An energy of zero on the plane has no log Z: the weights' variance is infinite, and what they say is withheld.
    let Err(error) = log_z(&bare, None, Some(&flow), &plain) else { panic!("it has none") };
    assert!(error.exit_code() == 1 && error.to_string().contains("Pareto k of its weights is "), "{error}");
    // Far from the model: few effective draws.
    let far = importance(&mixture(&[30.0]), &flow, options(USUAL, 500, 0));
    let found = far.expect("finite");
    assert!(found.doubtful && found.caveat.contains("fewer than 100 effective draws"), "{found:?}");
    let samples = exact_samples(&mixture(&[30.0]), 100, 0);
    let found = bridge(&mixture(&[30.0]), &flow, &samples, options(USUAL, 500, 0)).expect("finite");
    assert!(found.doubtful && found.caveat.contains("overlap"), "{found:?}");
}
