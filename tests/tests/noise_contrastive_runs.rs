//! Runs of noise-contrastive estimation: checkpoints, the learning rate of c, a flow that follows, mistakes. What it estimates:
//! `noise_contrastive.rs`.

use burn::tensor::Tensor;
use ember_model::params::download;
use ember_tests::configs::{config, refused, small};
use ember_tests::cpu;
use ember_tests::resumed::{resumed, trained};
use ember_train::config::Config;
use ember_train::store::checkpoint::Checkpoint;
use ember_train::training::trainer::Trainer;

const GAUSSIAN: &str = "{ kind = \"noise_contrastive\", ratio = 2.0 }";
const FLOW: &str = "{ kind = \"noise_contrastive\", noise = \"flow\", ratio = 0.5, flow = { kind = \"real_nvp\", layers = 2, hidden = [8] } }";
const FOLLOWING: &str = "{ kind = \"noise_contrastive\", noise = \"flow\", flow_learning_rate = 0.003, flow = { kind = \"real_nvp\", layers = 2, hidden = [8] } }";

fn conditional(sigma: f64) -> String {
    format!("{{ kind = \"conditional_nce\", sigma = {sigma:?} }}")
}

fn number(tensor: Tensor<1>) -> f64 {
    f64::from(download(tensor)[0])
}

/// From a checkpoint a run goes on to the same bits, c, the flow of the noise and their moments with it.
#[test]
fn a_resumed_run_is_the_same() {
    for (table, more) in [
        (GAUSSIAN.to_owned(), "optimizer.clip_norm = 0.1"),
        (GAUSSIAN.to_owned(), "optimizer = { kind = \"sgd\", learning_rate = 0.05 }"),
        (FLOW.to_owned(), "pretrain.steps = 20"),
        (FOLLOWING.to_owned(), "pretrain.steps = 20"),
        (conditional(1.0), ""),
    ] {
        let config = config(&small(&format!("objective = {table}\ndataset.batch_size = 100\n{more}")));
        let (state, found) = resumed(&config);
        let [whole, resumed] = found.map(|trainer| trainer.to_state("cpu"));
        assert_eq!(whole, resumed, "{table}");
        let names = |state: &Checkpoint, prefix: &str| {
            state.optimizer.iter().filter(|tensor| tensor.name.starts_with(prefix)).count()
        };
        let is_nce = !table.contains("conditional");
        assert_eq!(names(&whole, "own.values"), usize::from(is_nce), "{table}");
        assert_eq!(names(&whole, "noise.flow.") > 0, table.contains("flow ="), "{table}");
        let of = |state: &Checkpoint, prefix: &str| -> Vec<f32> {
            let own = state.optimizer.iter().filter(|tensor| tensor.name.starts_with(prefix));
            own.flat_map(|tensor| tensor.values.clone()).collect()
        };
        assert_eq!(of(&state, "own.values") == of(&whole, "own.values"), !is_nce, "{table}");
        let follows = of(&state, "noise.flow.") != of(&whole, "noise.flow.");
        assert_eq!(follows, table == FOLLOWING, "{table}");
    }
}

/// c moves at its share of the learning rate, and after a rollback at what is left of it.
#[test]
fn c_has_its_own_learning_rate() {
    let step = |scale: f64, rollbacks: u32| {
        let table = format!("{{ kind = \"noise_contrastive\", log_z_learning_rate_scale = {scale:?} }}");
        let mut trainer =
            Trainer::new(config(&small(&format!("objective = {table}"))), &cpu()).expect("starts");
        trainer.roll_back_to(rollbacks);
        let c = |trainer: &Trainer| number(trainer.own.as_ref().expect("one").values.clone());
        let before = c(&trainer);
        trainer.update(false).expect("finite");
        (c(&trainer) - before).abs()
    };
    // Adam's first step is the learning rate, .005.
    for (scale, rollbacks, expected) in [(1.0, 0, 0.005), (8.0, 0, 0.04), (8.0, 1, 0.02)] {
        let found = step(scale, rollbacks);
        assert!((found - expected).abs() < 1e-4, "{scale}, {rollbacks} rollbacks: {found} {expected}");
    }
}

/// A checkpoint without the numbers that the objective needs, or with another count of them, is refused by name.
#[test]
fn a_checkpoint_without_own_numbers_is_refused() {
    let nce = config(&small(&format!("objective = {GAUSSIAN}")));
    let other = config(&small(&format!("objective = {}", conditional(1.0))));
    let [with_c, without] =
        [&nce, &other].map(|config| Trainer::new(config.clone(), &cpu()).expect("starts").to_state("cpu"));
    let refusal = |config: &Config, state: &Checkpoint| {
        let error =
            Trainer::from_state(config.clone(), state, "there".as_ref(), &cpu()).err().expect("refused");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let found = refusal(&nce, &without);
    assert!(found.contains("there") && found.contains("own.values") && found.contains("trains 1"), "{found}");
    let found = refusal(&other, &with_c);
    assert!(found.contains("holds 1") && found.contains("\"conditional_nce\" trains 0"), "{found}");
    let flow = config(&small(&format!("objective = {FLOW}\npretrain.steps = 1")));
    let found = refusal(&flow, &with_c);
    assert!(found.contains("objective.flow"), "{found}");
    let mut bad = with_c.clone();
    bad.optimizer.iter_mut().find(|tensor| tensor.name == "own.values").expect("c").values[0] = f32::NAN;
    let found = refusal(&nce, &bad);
    assert!(found.contains("own.values[0] is NaN"), "{found}");
}

/// Metric lines have the number under a name that says what it is.
#[test]
fn a_log_step_reads_c() {
    let mut trainer =
        Trainer::new(config(&small(&format!("objective = {GAUSSIAN}"))), &cpu()).expect("starts");
    let logged = trainer.update(true).expect("finite").logged.expect("a log step");
    let c = number(trainer.own.as_ref().expect("one").values.clone());
    assert_eq!(logged.own_numbers, [c]);
}

/// A flow that raises the loss comes nearer to the data than one that was hardly fitted and stays.
#[test]
fn a_flow_that_follows_is_harder_to_tell_from_the_data() {
    let loss = |table: &str| {
        let text = small(&format!(
            "objective = {table}\npretrain.steps = 1\ndataset.train_size = 512\noptimizer.learning_rate = 0.01"
        ));
        let mut trainer = trained(Trainer::new(config(&text), &cpu()).expect("starts"), 299);
        let logged = trainer.update(true).expect("finite").logged.expect("a log step");
        logged.loss.expect("a loss")
    };
    let [fixed, follows] =
        [FOLLOWING.replace("flow_learning_rate = 0.003, ", ""), FOLLOWING.to_owned()].map(|t| loss(&t));
    // 2 log 2 where they cannot be told apart.
    println!(
        "loss with fixed noise {fixed:.4}, with a flow that follows {follows:.4}, at most {:.4}",
        2.0 * 2f64.ln()
    );
    assert!(follows > fixed + 0.02 && follows < 2.0 * 2f64.ln() + 0.02, "{fixed} {follows}");
}

#[test]
fn mistakes_are_named() {
    let bad = |changes: &str, parts: &[&str]| refused(&small(changes), parts);
    let nce = |rest: &str| format!("objective = {{ kind = \"noise_contrastive\"{rest} }}");
    for ratio in ["0", "-1.0", "nan", "inf", "1e9"] {
        bad(&nce(&format!(", ratio = {ratio}")), &["objective.ratio", "> 0"]);
    }
    for scale in ["0.0", "-2.0", "inf"] {
        let scale = format!(", log_z_learning_rate_scale = {scale}");
        bad(&nce(&scale), &["objective.log_z_learning_rate_scale", "> 0"]);
    }
    bad(&nce(", ratio = 0.001"), &["objective.ratio", "256 rows", "less than one draw"]);
    bad(&nce(", ratio = \"two\""), &["objective.ratio", "a number"]);
    bad(&nce(", noise = \"gausian\""), &["objective.noise", "did you mean `gaussian`?", "`flow`"]);
    bad(&nce(", weights = true"), &["objective.weights", "unknown key", "`ratio`"]);
    bad(&nce(", noise = \"flow\""), &["objective.flow", "missing", "real_nvp"]);
    let flow = "flow = { kind = \"real_nvp\", layers = 2, hidden = [8] }";
    bad(&nce(&format!(", {flow}")), &["objective.flow", "noise = \"flow\""]);
    bad(&nce(", flow_learning_rate = 0.1"), &["objective.flow_learning_rate", "noise = \"flow\""]);
    bad(
        &nce(&format!(", noise = \"flow\", {flow}, flow_learning_rate = 0.0")),
        &["objective.flow_learning_rate", "found 0"],
    );
    bad(
        &nce(", noise = \"flow\", flow = { kind = \"mlp\", hidden = [8] }"),
        &["objective.flow", "expected a flow"],
    );
    bad(
        &nce(", noise = \"flow\", flow = { kind = \"real_nvp\", layers = 0, hidden = [8] }"),
        &["objective.flow.layers"],
    );
    bad(&nce(", noise = \"flow\", flow = \"no/such/run\""), &["objective.flow", "no/such/run"]);
    bad(&format!("{}\npretrain.steps = 2", nce("")), &["pretrain", "no flow to fit", "objective.flow"]);
    bad(&format!("{}\nkernel.boundary = \"reflect\"", nce("")), &["kernel.boundary", "all of space"]);
    let conditional = |rest: &str| format!("objective = {{ kind = \"conditional_nce\"{rest} }}");
    bad(&conditional(""), &["objective.sigma", "missing"]);
    bad(&conditional(", sigma = 0.0"), &["objective.sigma", "found 0"]);
    bad(&conditional(", sigma = 1.0, samples = 0"), &["objective.samples", "found 0"]);
    bad(&conditional(", sigma = 1.0, ratio = 2.0"), &["objective.ratio", "unknown key", "`sigma`"]);
    for table in [GAUSSIAN, FLOW, FOLLOWING, "{ kind = \"conditional_nce\", sigma = 2.0 }"] {
        let more = if table.contains("flow") { "\npretrain.steps = 3" } else { "" };
        let loaded = config(&small(&format!("objective = {table}{more}")));
        assert_eq!(config(&loaded.to_toml()), loaded, "{table}");
    }
}
