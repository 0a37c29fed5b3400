//! Running `ember` in a scratch folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::program;

pub const TOY: &str = r#"
seed = 3
steps = 60

[dataset]
kind = "gaussian_mixture"
dim = 3
means = [[-2.0], [2.0]]
weights = [0.25, 0.75]
train_size = 400
test_size = 200
batch_size = 100

[energy]
kind = "gaussian_mixture"
means = [[-0.5], [0.5]]
means_noise = 0.1
logit_learning_rate_scale = 5.0

[walkers]
count = 300

[kernel]
kind = "ula"
step_size = 0.1

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.02

[audit]
walkers = 50
repeats = 3
every = 20

[output]
log_every = 10
checkpoint_every = 20
keep_checkpoints = 3
"#;

pub const MLP: &str = r#"
steps = 20

[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5], [1.5]]
weights = [0.3, 0.7]
std = 0.5
train_size = 256
test_size = 100

[energy]
kind = "mlp"
hidden = [16, 16]
confinement = 1.0

[walkers]
count = 128

[kernel]
kind = "mala"
step_size = 0.1

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.005

[output]
log_every = 5
checkpoint_every = 10
"#;

/// A flow, trained without walkers; only what has no default.
pub const FLOW: &str = r#"
steps = 20

[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5], [1.5]]
weights = [0.3, 0.7]
std = 0.5
train_size = 256
test_size = 100

[energy]
kind = "real_nvp"
layers = 4
hidden = [16]
act_norm = true

[walkers]
count = 50

[objective]
kind = "maximum_likelihood"

[optimizer]
kind = "adam"
learning_rate = 0.005
ema = 0.9

[output]
log_every = 5
checkpoint_every = 10
"#;

/// A network on a flow; only what has no default.
pub const TILTED: &str = r#"
steps = 20

[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5], [1.5]]
weights = [0.3, 0.7]
std = 0.5
train_size = 256
test_size = 100

[energy]
kind = "tilted"

[energy.base]
kind = "real_nvp"
layers = 2
hidden = [16]
act_norm = true

[energy.tilt]
kind = "mlp"
hidden = [16]

[walkers]
count = 128

[kernel]
kind = "mala"
step_size = 0.1

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.005

[output]
log_every = 5
checkpoint_every = 10
"#;

/// A scratch folder with a config in it.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(folder.path().join("toy.toml"), config).expect("a config");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program::ember(env!("CARGO_BIN_EXE_ember"), self.folder.path(), args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn ember(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("ember starts")
    }

    /// Runs and expects success; returns stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.ember(args);
        assert!(output.status.success(), "ember {args:?}: {}\n{}", output.status, stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs and expects an exit code and every word on stderr.
    pub fn fails(&self, args: &[&str], code: i32, words: &[&str]) -> String {
        let output = self.ember(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "ember {args:?}:\n{text}");
        for word in words {
            assert!(text.contains(word), "ember {args:?}: no `{word}` in\n{text}");
        }
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    /// What is in the scratch folder beside the config.
    pub fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("readable");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "toy.toml").collect()
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `metrics.jsonl` without its time fields.
pub fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let lines = text.lines().map(|line| {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        let object = value.as_object_mut().expect("an object");
        object.remove("time_s");
        object.remove("walker_steps_per_s");
        value
    });
    lines.collect()
}

/// The bytes of `model.safetensors` of a step.
pub fn model_bytes(run: &Path, step: u64) -> Vec<u8> {
    let path = run.join(format!("checkpoints/step_{step:08}/model.safetensors"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
