//! Every mistake a config can hold: the message names the place, what was found, what was expected, and the remedy.

use std::path::Path;

use ember_train::config::{Config, Loaded, Overrides};
use ember_train::error::Error;

/// A small config that is right in everything; the tests break one line of it.
const GOOD: &str = r#"seed = 1
steps = 100

[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.0], [1.0, 0.5]]
weights = [0.25, 0.75]
std = 1.0
train_size = 64
test_size = 32
batch_size = 16

[energy]
kind = "mlp"
hidden = [8, 8]
activation = "silu"
confinement = 1.0

[walkers]
count = 32
init = "model"

[kernel]
kind = "ula"
step_size = 0.1
steps_per_update = 2

[resampling]
scheme = "systematic"
ess_threshold = 0.5

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.001

[output]
log_every = 10
"#;

fn load_good() -> Config {
    Config::from_toml(GOOD, "good.toml").expect("the good config is good")
}

fn fail(text: &str) -> String {
    let error = Config::from_toml(text, "bad.toml").expect_err("the config is bad");
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

/// The error of `GOOD` with the first `from` replaced by `to`, which holds every one of `parts`.
#[track_caller]
fn broken(from: &str, to: &str, parts: &[&str]) {
    assert!(GOOD.contains(from), "`{from}` is not in the good config");
    contains(&fail(&GOOD.replacen(from, to, 1)), parts);
}

#[track_caller]
fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[test]
fn the_good_config_is_good() {
    let config = load_good();
    assert_eq!(config.kernel.steps_per_update, 2);
    assert_eq!(config.output.keep_checkpoints, 3);
}

#[test]
fn misspelt_keys_are_named_with_the_nearest_one_and_all_of_them() {
    broken(
        "step_size",
        "stepsize",
        &["bad.toml:26: kernel.stepsize", "did you mean `step_size`?", "`steps_per_update`", "`kind`"],
    );
    broken("train_size", "trainsize", &["bad.toml:10: dataset.trainsize", "`train_size`", "`batch_size`"]);
    broken("hidden", "hiden", &["bad.toml:16: energy.hiden", "did you mean `hidden`?", "`confinement`"]);
    broken("count", "cuont", &["bad.toml:21: walkers.cuont", "did you mean `count`?"]);
    broken(
        "ess_threshold",
        "ess_treshold",
        &["bad.toml:31: resampling.ess_treshold", "did you mean `ess_threshold`?"],
    );
    broken("learning_rate", "lr", &["bad.toml:38: optimizer.lr", "`learning_rate`", "`beta1`"]);
    broken("log_every", "log_evry", &["bad.toml:41: output.log_evry", "did you mean `log_every`?"]);
    broken("seed", "sede", &["bad.toml:1: sede", "did you mean `seed`?", "`steps`"]);
    broken("[walkers]", "[walker]", &["bad.toml:20: walker:", "did you mean `walkers`?"]);
    broken("\"jarzynski\"", "\"jarzynski\"\nrestart_every = 2", &["objective.restart_every", "unknown key"]);
    broken("\"adam\"", "\"sgd\"\nbeta1 = 0.5", &["optimizer.beta1", "unknown key"]);
    let nested = "learning_rate = 0.1\nschedule = { kind = \"linear\", horizn = 5 }";
    broken(
        "learning_rate = 0.001",
        nested,
        &["bad.toml:39: optimizer.schedule.horizn", "did you mean `horizon`?"],
    );
}

#[test]
fn an_unknown_kind_is_named_with_the_nearest_one() {
    broken(
        "kind = \"ula\"",
        "kind = \"ulla\"",
        &["bad.toml:25: kernel.kind", "\"ulla\"", "did you mean `ula`?", "`mala`"],
    );
    broken("kind = \"mlp\"", "kind = \"mpl\"", &["energy.kind", "did you mean `mlp`?", "`conv`"]);
    broken("gaussian_mixture", "gaussian", &["dataset.kind", "`gaussian_mixture`"]);
    broken("jarzynski", "jarzinsky", &["objective.kind", "did you mean `jarzynski`?", "`persistent_cd`"]);
    broken("adam", "adm", &["optimizer.kind", "did you mean `adam`?"]);
    broken("systematic", "systemic", &["resampling.scheme", "did you mean `systematic`?", "`none`"]);
    broken("init = \"model\"", "init = \"modle\"", &["walkers.init", "did you mean `model`?"]);
    broken("silu", "sillu", &["energy.activation", "did you mean `silu`?"]);
    let nested = "learning_rate = 0.1\nschedule = { kind = \"linera\", horizon = 5 }";
    broken("learning_rate = 0.001", nested, &["optimizer.schedule.kind", "did you mean `linear`?"]);
}

#[test]
fn what_comes_later_is_said_to_come_later() {
    let later = "not available in this version";
    broken("\"adam\"", "\"adamw\"", &["optimizer.kind", "adamw", later]);
}

#[test]
fn missing_keys_and_tables_are_named() {
    broken("steps = 100\n", "", &["bad.toml: steps", "missing"]);
    broken("count = 32\n", "", &["bad.toml:20: walkers.count", "missing"]);
    broken("step_size = 0.1\n", "", &["bad.toml:24: kernel.step_size", "missing"]);
    broken("dim = 2\n", "", &["dataset.dim", "missing"]);
    broken("hidden = [8, 8]\n", "", &["energy.hidden", "missing"]);
    broken("learning_rate = 0.001\n", "", &["optimizer.learning_rate", "missing"]);
    broken("kind = \"ula\"\n", "", &["kernel.kind", "missing", "`ula`", "`mala`"]);
    broken("kind = \"jarzynski\"\n", "", &["objective.kind", "missing", "`jarzynski`"]);
    broken("[objective]\nkind = \"jarzynski\"\n", "", &["[objective]", "missing"]);
    let nested = "learning_rate = 0.1\nschedule = { kind = \"linear\" }";
    broken("learning_rate = 0.001", nested, &["optimizer.schedule", "`horizon`", "missing"]);
    contains(&fail(""), &["steps", "missing"]);
}

#[test]
fn a_wrong_type_is_named_with_what_was_expected() {
    broken(
        "step_size = 0.1",
        "step_size = \"big\"",
        &["bad.toml:26: kernel.step_size", "\"big\"", "expected a number"],
    );
    broken("steps = 100", "steps = -5", &["bad.toml:2: steps", "-5", "expected a whole number ≥ 0"]);
    broken("steps = 100", "steps = 1.5", &["steps", "1.5", "expected a whole number"]);
    broken("count = 32", "count = -1", &["walkers.count", "-1", "expected a whole number"]);
    broken(
        "steps_per_update = 2",
        "steps_per_update = true",
        &["kernel.steps_per_update", "true", "expected a whole number"],
    );
    broken("hidden = [8, 8]", "hidden = 8", &["energy.hidden", "8", "expected a list"]);
    broken("hidden = [8, 8]", "hidden = [8, 0.5]", &["energy.hidden", "0.5", "expected a whole number"]);
    broken("means = [[-1.0], [1.0, 0.5]]", "means = [1.0, 2.0]", &["dataset.means", "expected a list"]);
    broken(
        "learning_rate = 0.001",
        "learning_rate = []",
        &["optimizer.learning_rate", "a list", "expected a number"],
    );
    let no_table = GOOD.replacen("[output]\nlog_every = 10\n", "", 1).replacen("seed = 1", "output = 3", 1);
    contains(&fail(&no_table), &["bad.toml:1: output", "found integer", "expected a table [output]"]);
    let flag = "init = \"model\"\nunweighted_start = \"yes\"";
    broken("init = \"model\"", flag, &["walkers.unweighted_start", "expected true or false"]);
    broken("kind = \"ula\"", "kind = 3", &["kernel.kind"]);
}

#[test]
fn values_out_of_range_are_named() {
    for bad in ["0.0", "-0.1", "nan", "inf"] {
        broken(
            "step_size = 0.1",
            &format!("step_size = {bad}"),
            &["bad.toml:26: kernel.step_size", "expected a finite number > 0"],
        );
        broken(
            "learning_rate = 0.001",
            &format!("learning_rate = {bad}"),
            &["optimizer.learning_rate", "finite number > 0"],
        );
        broken(
            "std = 1.0",
            &format!("std = {bad}"),
            &["bad.toml:9: dataset.std", "expected a finite number > 0"],
        );
    }
    for bad in ["-0.1", "1.5", "nan", "inf"] {
        broken(
            "ess_threshold = 0.5",
            &format!("ess_threshold = {bad}"),
            &["resampling.ess_threshold", "between 0 and 1"],
        );
    }
    broken("confinement = 1.0", "confinement = -1.0", &["bad.toml:18: energy.confinement", "-1"]);
    for (key, value) in [("steps", "100"), ("count", "32"), ("steps_per_update", "2"), ("log_every", "10")] {
        broken(&format!("{key} = {value}"), &format!("{key} = 0"), &[key, "expected at least 1"]);
    }
    broken("log_every", "keep_checkpoints = 0\nlog_every", &["output.keep_checkpoints", "at least 1"]);
    broken("log_every", "checkpoint_every = 0\nlog_every", &["output.checkpoint_every", "at least 1"]);
    broken("learning_rate", "clip_norm = 0.0\nlearning_rate", &["optimizer.clip_norm", "> 0"]);
    broken("learning_rate", "beta1 = 1.0\nlearning_rate", &["optimizer.beta1", "[0, 1)"]);
    broken("learning_rate", "epsilon = 0.0\nlearning_rate", &["optimizer.epsilon", "> 0"]);
    let schedule = "schedule = { kind = \"cosine\", horizon = 0 }\nlearning_rate";
    broken("learning_rate", schedule, &["bad.toml:38: optimizer.schedule.horizon", "at least 1"]);
    let cd = "kind = \"contrastive_divergence\"\nrestart_every = 0";
    broken("kind = \"jarzynski\"", cd, &["objective.restart_every", "at least 1"]);
}

#[test]
fn the_kernels_numbers_are_checked() {
    let kernel = |table: &str, parts: &[&str]| {
        broken("kind = \"ula\"\nstep_size = 0.1", &table.replace("; ", "\n"), parts);
    };
    let h = "step_size = 0.1";
    kernel(&format!("kind = \"hmc\"; {h}"), &["kernel.leapfrog_steps", "missing"]);
    kernel(
        &format!("kind = \"hmc\"; {h}; leapfrog_steps = 0"),
        &["kernel.leapfrog_steps", "found 0", "at least 1"],
    );
    kernel("kind = \"hmc\"; step_size = -1.0; leapfrog_steps = 3", &["kernel.step_size", "> 0"]);
    kernel(
        &format!("kind = \"hmc\"; {h}; leapfrog_step = 3"),
        &["kernel.leapfrog_step", "did you mean `leapfrog_steps`?"],
    );
    kernel("kind = \"flow_mh\"; local_steps = 2", &["kernel.step_size", "missing", "local_steps = 2"]);
    kernel(
        &format!("kind = \"flow_mh\"; {h}"),
        &["kernel.step_size", "found 0.1", "leave it out", "local_steps"],
    );
    kernel("kind = \"flow_mh\"; local_steps = 2; step_size = 0.0", &["kernel.step_size", "found 0", "> 0"]);
    let many = format!("kind = \"flow_mh\"; local_steps = {}; {h}", i64::MAX);
    kernel(&many, &["kernel.steps_per_update", "(1 + local_steps)", "counter"]);
    kernel(
        "kind = \"i_sir\"; proposals = 1",
        &["kernel.proposals", "found 1", "at least 2", "current point"],
    );
    kernel("kind = \"i_sir\"; proposal = 8", &["kernel.proposal", "did you mean `proposals`?"]);
    kernel(
        &format!("kind = \"i_sir\"; proposals = 8; {h}"),
        &["kernel.step_size", "unknown key", "`proposals`"],
    );
    let many = format!("kind = \"i_sir\"; proposals = {}", i64::MAX);
    kernel(&many, &["kernel.proposals", "32 walkers", "the most a tensor can hold"]);
    kernel("kind = \"ex2mcmc\"; proposals = 4", &["kernel.step_size", "missing"]);
    kernel(&format!("kind = \"ex2mcmc\"; proposals = 0; {h}"), &["kernel.proposals", "at least 2"]);
    let none = format!("kind = \"ex2mcmc\"; proposals = 4; local_steps = 0; {h}");
    kernel(&none, &["kernel.local_steps", "at least 1", "\"i_sir\""]);
    kernel(&format!("kind = \"neutra\"; {h}; leapfrog_steps = 0"), &["kernel.leapfrog_steps", "at least 1"]);
    kernel("kind = \"neutra\"; step_size = nan", &["kernel.step_size", "NaN"]);
    kernel(&format!("kind = \"neutra\"; {h}; proposals = 3"), &["kernel.proposals", "`leapfrog_steps`"]);
}

#[test]
fn the_data_set_is_checked() {
    broken(
        "weights = [0.25, 0.75]",
        "weights = [0.25, 0.7]",
        &["bad.toml:8: dataset.weights", "sum to 0.95", "expected 1"],
    );
    broken("weights = [0.25, 0.75]", "weights = [-0.25, 1.25]", &["dataset.weights", "-0.25"]);
    broken("weights = [0.25, 0.75]", "weights = [nan, 0.75]", &["dataset.weights", "NaN"]);
    broken("weights = [0.25, 0.75]", "weights = [1.0]", &["dataset.weights", "1 weights for 2 means"]);
    broken("dim = 2", "dim = 1", &["bad.toml:7: dataset.means", "mean 1 has 2 coordinates", "dim = 1"]);
    broken("dim = 2", "dim = 0", &["dataset.dim", "at least 1"]);
    broken("means = [[-1.0], [1.0, 0.5]]", "means = []", &["dataset.means", "at least one"]);
    broken("means = [[-1.0], [1.0, 0.5]]", "means = [[inf], [1.0]]", &["dataset.means", "inf", "finite"]);
    broken("batch_size = 16", "batch_size = 0", &["dataset.batch_size", "at least 1"]);
    broken(
        "batch_size = 16",
        "batch_size = 65",
        &["bad.toml:12: dataset.batch_size", "65", "at most train_size = 64"],
    );
    broken("train_size = 64", "train_size = 0", &["dataset.train_size", "at least 1"]);
    broken("test_size = 32", "test_size = 0", &["dataset.test_size", "at least 1"]);
}

#[test]
fn an_energy_must_fit_the_data() {
    let mixture = "kind = \"gaussian_mixture\"\nmeans = [[1.0, 2.0, 3.0]]";
    let text = GOOD.replacen(
        "kind = \"mlp\"\nhidden = [8, 8]\nactivation = \"silu\"\nconfinement = 1.0",
        mixture,
        1,
    );
    contains(&fail(&text), &["bad.toml:16: energy.means", "3 coordinates", "dim = 2"]);
    let conv = "kind = \"conv\"\nlayers = [{ out = 1, kernel = 3 }]";
    let text = GOOD.replacen("kind = \"mlp\"\nhidden = [8, 8]", conv, 1);
    contains(&fail(&text), &["energy.kind", "conv", "images"]);
    let conv = "kind = \"conv\"\nlayers = [{ out = 1, kernal = 3 }]";
    let text = GOOD.replacen("kind = \"mlp\"\nhidden = [8, 8]", conv, 1);
    contains(&fail(&text), &["energy.layers.kernal", "did you mean `kernel`?"]);
    broken("hidden = [8, 8]", "hidden = []", &["energy.hidden"]);
    broken("hidden = [8, 8]", "hidden = [8, 0]", &["energy.hidden"]);
}

#[test]
fn sizes_that_overflow_are_refused_before_anything_is_allocated() {
    let huge = i64::MAX;
    broken(
        "train_size = 64",
        &format!("train_size = {huge}"),
        &["dataset.train_size", "the most a tensor can hold"],
    );
    broken("count = 32", &format!("count = {huge}"), &["walkers.count", "the most a tensor can hold"]);
    broken("steps = 100", &format!("steps = {huge}"), &["kernel.steps_per_update", "random number counter"]);
    broken(
        "steps_per_update = 2",
        &format!("steps_per_update = {huge}"),
        &["kernel.steps_per_update", "counter"],
    );
    broken("hidden = [8, 8]", &format!("hidden = [{huge}]"), &["[energy]", &huge.to_string()]);
    broken("hidden = [8, 8]", "hidden = [1000000, 1000000]", &["[energy]", "layers.1.weight", "more than"]);
    broken("seed = 1", "seed = 99999999999999999999", &["bad.toml:1:8", "not valid TOML"]);
    broken("dim = 2", &format!("dim = {huge}"), &["dataset"]);
}

#[test]
fn weighted_walkers_need_an_exact_start() {
    for init in ["data", "normal", "uniform"] {
        let init = format!("init = \"{init}\"");
        broken(
            "init = \"model\"",
            &init,
            &["bad.toml:22: walkers.init", "exact", "walkers.init = \"model\"", "unweighted_start = true"],
        );
        let accepted = GOOD.replacen("init = \"model\"", &format!("{init}\nunweighted_start = true"), 1);
        Config::from_toml(&accepted, "ok.toml").expect("asked for by name");
        let plain = GOOD.replacen("init = \"model\"", &init, 1).replacen("jarzynski", "persistent_cd", 1);
        Config::from_toml(&plain, "ok.toml").expect("nothing is weighted");
    }
    let free = GOOD.replacen("confinement = 1.0\n", "", 1);
    contains(&fail(&free), &["walkers.init", "confinement"]);
    let elsewhere = free.replacen("init = \"model\"", "init = \"normal\"", 1);
    contains(&fail(&elsewhere), &["walkers.init", "energy.confinement", "unweighted_start = true"]);
    let accepted = elsewhere.replacen("init = \"normal\"", "init = \"normal\"\nunweighted_start = true", 1);
    Config::from_toml(&accepted, "ok.toml").expect("asked for by name");
}

#[test]
fn an_audit_is_checked() {
    let with = |audit: &str| format!("{GOOD}[audit]\n{audit}");
    Config::from_toml(&with("walkers = 10\nrepeats = 2\nevery = 5"), "ok.toml").expect("a right audit");
    contains(
        &fail(&with("walkers = 10\nrepeats = 1\nevery = 5")),
        &["audit.repeats", "at least 2", "standard error"],
    );
    contains(&fail(&with("walkers = 0\nrepeats = 2\nevery = 5")), &["audit.walkers", "at least 1"]);
    contains(&fail(&with("walkers = 10\nrepeats = 2\nevery = 0")), &["audit.every", "at least 1"]);
    contains(&fail(&with("walkers = 10\nrepeats = 2")), &["audit.every", "missing"]);
    let free = with("walkers = 10\nrepeats = 2\nevery = 5").replacen("confinement = 1.0\n", "", 1).replacen(
        "init = \"model\"",
        "init = \"normal\"\nunweighted_start = true",
        1,
    );
    contains(&fail(&free), &["[audit]", "exact draws", "confinement"]);
}

#[test]
fn syntax_errors_show_line_and_column() {
    broken("dim = 2", "dim = = 2", &["bad.toml:6:7", "not valid TOML"]);
    broken("steps = 100", "steps = 100\nsteps = 200", &["bad.toml:3:1", "duplicate key"]);
    broken("[energy]", "[energy", &["bad.toml:14:8", "not valid TOML"]);
    broken("kind = \"ula\"", "kind = \"ula", &["bad.toml:25:", "not valid TOML"]);
    contains(&fail("steps"), &["bad.toml:1:"]);
}

fn load(path: &Path) -> Result<Loaded, Error> {
    Config::load(path, &Overrides::default())
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let missing = dir.path().join("nothing.toml");
    let error = load(&missing).expect_err("it is not there");
    assert_eq!(error.exit_code(), 2);
    contains(&error.to_string(), &["nothing.toml", "cannot be read"]);
    let error = load(dir.path()).expect_err("it is a folder");
    assert_eq!(error.exit_code(), 2);

    let latin = dir.path().join("latin1.toml");
    std::fs::write(&latin, b"seed = 1\n# caf\xe9\nsteps = 2\n").expect("written");
    let error = load(&latin).expect_err("it is Latin-1");
    assert_eq!(error.exit_code(), 2);
    contains(&error.to_string(), &["latin1.toml", "not UTF-8", "0xe9", "offset 14", "line 2"]);

    let cut = dir.path().join("cut.toml");
    std::fs::write(&cut, b"# caf\xc3").expect("written");
    contains(&load(&cut).expect_err("cut inside a character").to_string(), &["offset 5"]);

    let good = dir.path().join("good.toml");
    std::fs::write(&good, GOOD).expect("written");
    assert_eq!(load(&good).expect("the good config").name, "good");
}

/// Every prefix, and every single byte replaced: an error or a config, never a panic.
#[test]
fn no_damage_makes_it_panic() {
    for end in 0..GOOD.len() {
        drop(Config::from_toml(&GOOD[..end], "cut.toml"));
    }
    for at in 0..GOOD.len() {
        for byte in ["\"", "=", "[", "9", "\n", "-"] {
            let mut text = GOOD.to_owned();
            text.replace_range(at..=at, byte);
            if let Err(error) = Config::from_toml(&text, "damaged.toml") {
                assert_eq!(error.exit_code(), 2);
                assert!(error.to_string().starts_with("damaged.toml"), "{error}");
            }
        }
    }
}

/// `GOOD` as a machine of bits, with lines changed on top.
fn bits(changes: &str) -> String {
    let kernel = "kernel = { kind = \"gibbs\" }\nenergy = { kind = \"rbm\", hidden = 5 }";
    ember_tests::small::with(GOOD, &format!("{kernel}\n{changes}"))
}

#[test]
fn what_a_law_of_bits_cannot_have_is_named() {
    Config::from_toml(&bits(""), "bits.toml").expect("a machine of bits");
    let langevin = "kernel = { kind = \"ula\", step_size = 0.1 }";
    contains(&fail(&bits(langevin)), &["kernel.kind", "rbm", "zeros and ones", "\"gibbs\""]);
    contains(&fail(&bits("kernel = { kind = \"mala\", step_size = 0.1 }")), &["kernel.kind", "\"gibbs\""]);
    let matching = "objective = { kind = \"score_matching\", form = \"implicit\" }";
    contains(&fail(&bits(matching)), &["objective.kind", "score matching of a discrete energy", "jarzynski"]);
    let discrepancy = "objective = { kind = \"maximum_likelihood\" }";
    contains(&fail(&bits(discrepancy)), &["objective.kind", "densities", "persistent_cd"]);
    contains(&fail(&bits("kernel.temperature = 0.5")), &["kernel.temperature", "temperature 1"]);
    contains(&fail(&bits("walkers.init = \"uniform\"")), &["walkers.init", "\"model\" or \"data\""]);
    contains(&fail(&bits("energy.hidden = 0")), &["energy.hidden", "at least 1"]);
    contains(&fail(&bits("energy.weights_std = 0.0")), &["energy.weights_std", "stay equal"]);
    broken(
        "kind = \"ula\"\nstep_size = 0.1",
        "kind = \"gibbs\"",
        &["kernel.kind", "a mlp is a density", "\"mala\""],
    );
    let images = |more: &str| {
        let dataset = format!("dataset = {{ kind = \"mnist\", dir = \"x\", {more} }}");
        fail(&ember_tests::small::with(GOOD, &dataset))
    };
    contains(&images("binarise = 1.5"), &["dataset.binarise", "1.5", "between 0 and 1"]);
    contains(&images("binarise = 0.5, noise = 0.1"), &["dataset.noise", "binarise"]);
}
