//! Independent ensembles: repeats pooled by their own Z, and walkers whose energies are not finite.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::mlp::Mlp;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::evidence::Ensembles;
use ember_sampler::evidence::smc::{SmcOptions, tempered};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Scheme, Walkers};
use ember_tests::{cpu, gpu};
use ember_train::error::Error;
use ember_train::judging::eval_options::EvalOptions;
use ember_train::judging::log_z::log_z;

/// A network of the plane, away from its start.
fn network(offset: f64) -> EnergyModel {
    let mlp = "kind = \"mlp\"\nhidden = [8]\nconfinement = 1.0";
    let energy: EnergyConfig = toml::from_str(mlp).expect("an energy");
    let EnergyConfig::Mlp(Mlp { .. }) = &energy else { panic!("an mlp") };
    let model =
        EnergyModel::init(EnergySpec::new(SampleShape::Flat(2), energy), 3, &cpu()).expect("a network");
    model.with_theta(model.theta().iter().map(|tensor| tensor.clone().add_scalar(offset)).collect())
}

fn walkers(model: &EnergyModel, count: usize) -> Walkers {
    let rows = Stream::new(1, Purpose::Start).normals(count, 2);
    Walkers::new(model, Tensor::from_data(TensorData::new(rows, [count, 2]), &cpu()), 0.0)
}

fn with_log_weights(walkers: Walkers, log_weights: Vec<f32>) -> Walkers {
    let zeros = upload(vec![0.0; log_weights.len()], &cpu());
    Walkers { log_weights: LogWeights::from_parts(upload(log_weights, &cpu()), zeros), ..walkers }
}

/// Two repeats of equal Z, of which one banked it at a resampling and the other still carries it: each has half of the draws. Their
/// log-weights alone would give the second a share of `e³/(1 + e³) = .95`.
#[test]
fn pooled_repeats_have_the_mass_of_their_own_z() {
    let model = network(0.1);
    let population = with_log_weights(walkers(&model, 8), [[0.0; 4], [3.0; 4]].concat());
    let mut ensembles = Ensembles::new(population, 2, 5);
    ensembles.log_z = Banked::new(vec![1003.0, 1000.0], &cpu());
    let weights = download(ensembles.pooled().weights());
    let second: f32 = weights[4..].iter().sum();
    assert!((second - 0.5).abs() < 1e-6, "{weights:?}");
}

/// A walker at an infinite energy has no weight, and goes on without: nothing becomes NaN, and the others are as they were.
#[test]
fn a_walker_without_weight_stays_without() {
    for device in std::iter::once(cpu()).chain(gpu()) {
        let zeros = || upload(vec![0.0; 3], &device);
        let mut sum = LogWeights::from_parts(zeros(), zeros());
        for delta in [[f32::NEG_INFINITY, 1e-9, 1.0], [f32::INFINITY, 1.0, 2.0], [f32::NAN, 0.0, 3.0]] {
            sum = sum.accumulate(upload(delta.to_vec(), &device));
        }
        assert_eq!(download(sum.value()), [f32::NEG_INFINITY, 1.0, 6.0], "{device:?}");
        let rest = download(sum.compensation());
        assert!(rest[0] == 0.0 && (rest[1] - 1e-9).abs() < 1e-12 && rest[2] == 0.0, "{device:?}: {rest:?}");
    }
}

/// A group that is not due keeps its walker without weight; one that is resampled loses it, and all its weights are equal.
#[test]
fn groups_with_walkers_without_weight_are_settled() {
    let model = network(0.1);
    let log_weights = vec![f32::NEG_INFINITY, 0.0, 0.0, 0.0, 9.0, f32::NEG_INFINITY, 0.0, 0.0];
    let population = with_log_weights(walkers(&model, 8), log_weights);
    let stream = Stream::new(2, Purpose::Resampling);
    let bank = Banked::new(vec![0.0, 0.0], &cpu());
    let (settled, bank, _) = population.settled_groups(bank, Scheme::Systematic, 0.5, stream, 1);
    let kept = download(settled.log_weights.value());
    assert_eq!(kept, [f32::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(download(settled.log_weights.compensation()), [0.0; 8]);
    assert!(bank.values()[0] == 0.0 && bank.values()[1] > 6.0, "{:?}", bank.values());
}

/// One repeat of the audit is lost: log Z is tempered SMC's, and it is said why.
#[test]
fn an_audit_that_is_not_finite_gives_way() {
    let model = network(0.1);
    let mut log_weights = vec![0.0; 300];
    log_weights[150] = f32::NAN;
    let audit = Ensembles::new(with_log_weights(walkers(&model, 300), log_weights), 3, 1);
    assert_eq!(audit.fault().expect("seen"), "the log-weights of 1 of its 3 repeats are not finite");
    let options = EvalOptions { repeats: 2, smc_walkers: Some(200), ..EvalOptions::default() };
    let found = log_z(&model, Some(&audit), None, &options).expect("by another estimator");
    assert_eq!((found.log_z.method, found.log_z.value.is_finite()), ("smc", true));
    assert!(found.estimates.iter().all(|estimate| estimate.value.is_finite()));
    assert_eq!(found.failures.len(), 1);
    assert_eq!(found.failures[0].method, "audit");
    assert!(found.failures[0].message.contains("1 of its 3 repeats"), "{:?}", found.failures);
    assert_eq!(found.independent.expect("walkers").1, "smc");
}

/// An energy beyond f32 on the annealed path is an error that names it, whatever its sign.
#[test]
fn tempered_smc_refuses_energies_that_are_not_finite() {
    let model = network(1e30);
    let options = SmcOptions { walkers: 50, repeats: 2, ..SmcOptions::default() };
    let Err(error) = tempered(&model, options) else { panic!("no such log Z") };
    let error = Error::from(error);
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("tempered SMC: the energy is not finite at "), "{error}");
}
