//! Configs, and `--set` texts on configs that are right.

use std::path::Path;

use ember_train::config::{Config, Overrides};
use ember_train::memory::{self, Room};

use super::{Target, scratch};

/// Configs that come with the program.
const SHIPPED: [&str; 8] = [
    include_str!("../../../configs/toy1d_jarzynski.toml"),
    include_str!("../../../configs/mlp2d_jarzynski.toml"),
    include_str!("../../../configs/two_modes_flow_assisted.toml"),
    include_str!("../../../configs/moons_realnvp.toml"),
    include_str!("../../../configs/mnist236_jarzynski.toml"),
    include_str!("../../../configs/mnist_realnvp.toml"),
    include_str!("../../../configs/cifar10_small.toml"),
    include_str!("../../../configs/toy1d_cd.toml"),
];

/// Keys and kinds of configs.
pub(super) const WORDS: &[&str] = &[
    "[dataset]\n",
    "[energy]\n",
    "[pretrain]\n",
    "[walkers]\n",
    "[kernel]\n",
    "[resampling]\n",
    "[objective]\n",
    "[optimizer]\n",
    "[audit]\n",
    "[watchdog]\n",
    "[output]\n",
    "seed = ",
    "steps = ",
    "precision = ",
    "kind = ",
    "\"gaussian_mixture\"",
    "\"toy2d\"",
    "\"mnist\"",
    "\"cifar10\"",
    "\"image_folder\"",
    "\"shapes32\"",
    "\"mlp\"",
    "\"conv\"",
    "\"resnet\"",
    "\"real_nvp\"",
    "\"spline_flow\"",
    "\"multiscale_real_nvp\"",
    "\"tilted\"",
    "\"sum\"",
    "\"mixture\"",
    "\"negation\"",
    "parts = [{ ",
    "log_z = [",
    "temperatures = [",
    "normalise = true",
    "\"ula\"",
    "\"mala\"",
    "\"hmc\"",
    "\"flow_mh\"",
    "\"i_sir\"",
    "\"ex2mcmc\"",
    "\"neutra\"",
    "\"jarzynski\"",
    "\"persistent_cd\"",
    "\"contrastive_divergence\"",
    "\"maximum_likelihood\"",
    "\"flow_assisted\"",
    "\"replay_cd\"",
    "restart_probability = ",
    "\"score_matching\"",
    "\"energy_discrepancy\"",
    "\"noise_contrastive\"",
    "\"conditional_nce\"",
    "noise = \"flow\"",
    "flow = { kind = \"real_nvp\", layers = 2, hidden = [4] }",
    "flow_learning_rate = ",
    "ratio = ",
    "\"diff_clf\"",
    "weight = ",
    "levels = { from = ",
    "form = \"sliced\"",
    "form = \"denoising\"",
    "sigma = ",
    "slices = ",
    "samples = ",
    "t = ",
    "w = ",
    "\"sgd\"",
    "\"adam\"",
    "\"cosine\"",
    "\"linear\"",
    "\"constant\"",
    "dim = ",
    "size = ",
    "channels = ",
    "hidden = [",
    "layers = ",
    "levels = ",
    "couplings = ",
    "bins = ",
    "means = [[",
    "weights = [",
    "std = ",
    "train_size = ",
    "test_size = ",
    "batch_size = ",
    "confinement = ",
    "base = ",
    "tilt = ",
    "spectral_norm = true",
    "norm = \"group\"",
    "groups = ",
    "pool = \"none\"",
    "blocks_per_stage = ",
    "count = ",
    "moved_per_update = ",
    "init = \"uniform\"",
    "unweighted_start = true",
    "step_size = ",
    "steps_per_update = ",
    "temperature = ",
    "target_accept_rate = ",
    "boundary = \"reflect\"",
    "leapfrog_steps = ",
    "proposals = ",
    "local_steps = ",
    "ess_threshold = ",
    "scheme = \"none\"",
    "energy_l2 = ",
    "proposal = { ",
    "fit = \"pooled\"",
    "schedule = { ",
    "horizon = ",
    "end = ",
    "ema = ",
    "max_weight_change = ",
    "target_ess = ",
    "paper = { step = ",
    "repeats = ",
    "every = ",
    "walkers = ",
    "act_norm = true",
    "logit_alpha = ",
    "mask = \"checkerboard\"",
    "flip = true",
    "noise = ",
    "resize = true",
    "classes = [",
    "counts = [",
    "name = \"moons\"",
    "out = ",
    "kernel = ",
    "stride = ",
    "padding = ",
    "max_rollbacks = ",
    "keep_checkpoints = ",
    "log_every = ",
    "checkpoint_every = ",
    "4294967296",
    "9223372036854775807",
    "1e308",
    "nan",
    "inf",
];

/// The text of a config.
pub(super) const CONFIG: Target = Target {
    name: "config",
    run: config,
    seeds: || SHIPPED.map(|text| without_comments(text).into_bytes()).to_vec(),
    words: WORDS,
    most_bytes: 4096,
};

/// `--set` texts, one a line, on the config that the first byte chooses.
pub(super) const SET: Target =
    Target { name: "set", run: set, seeds: set_seeds, words: WORDS, most_bytes: 512 };

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return of_file(bytes) };
    match Config::from_toml(text, "fuzzed.toml") {
        Ok(config) => accepted(&config),
        Err(error) => refused(&error),
    }
}

/// Text that is not UTF-8 can be in a file only.
fn of_file(bytes: &[u8]) {
    scratch::within("config", |folder| {
        let path = folder.join("fuzzed.toml");
        scratch::write(&path, bytes);
        let error = Config::load(&path, &Overrides::default()).expect_err("not UTF-8");
        refused(&error);
    });
}

fn refused(error: &ember_train::error::Error) {
    assert_eq!(error.exit_code(), 2, "{error}");
    assert!(!error.to_string().is_empty());
}

/// What is said of a config before anything is allocated; and its resolved form reads back equal.
pub(super) fn accepted(config: &Config) {
    let text = config.to_toml();
    let again = Config::from_toml(&text, "resolved.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.to_toml(), text);
    assert_eq!(again, *config);
    let gigabyte = Room { device: "flex".into(), available: Some(1 << 30), shared: true, ..Room::default() };
    if let Err(error) = memory::check(config, &gigabyte, Path::new("fuzzed.toml")) {
        refused(&error);
    }
    let _ = memory::tight(config, &gigabyte);
    let _ = config.optimizer.idle(config.steps);
}

fn set(bytes: &[u8]) {
    let Some((choice, texts)) = bytes.split_first() else { return };
    let Ok(texts) = std::str::from_utf8(texts) else { return };
    scratch::within("set", |folder| {
        let number = usize::from(*choice) % SHIPPED.len();
        let path = folder.join(format!("{number}.toml"));
        if !path.is_file() {
            scratch::write(&path, SHIPPED[number].as_bytes());
        }
        // A line that ends in a backslash goes on.
        let set = texts.replace("\\\n", "\r").split('\n').map(|text| text.replace('\r', "\n")).collect();
        match Config::load(&path, &Overrides { set, ..Overrides::default() }) {
            Ok(loaded) => accepted(&loaded.config),
            Err(error) => refused(&error),
        }
    });
}

fn set_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "kernel.step_size=0.05",
        "dataset.train_size=100\nwalkers.count=20\nseed=7",
        "energy.hidden=[8, 8]\nenergy.confinement=2.0",
        "objective.proposal={ kind = \"real_nvp\", layers = 2, hidden = [4] }",
        "dataset.name=8gaussians\noptimizer.schedule={ kind = \"constant\" }",
        "dataset.dir=~/data\ndataset.classes=[0, 1]\ndataset.counts=[5, 6]",
        "energy={ kind = \"sum\", parts = [{ kind = \"mlp\", hidden = [4], confinement = 1.0 }, { kind = \"mlp\", hidden = [4] }] }",
        "energy={ kind = \"resnet\", channels = [8], confinement = 1.0 }",
        "audit.walkers=10\naudit.repeats=4\naudit.every=10",
    ];
    texts.iter().enumerate().map(|(i, text)| [&[i as u8], text.as_bytes()].concat()).collect()
}
