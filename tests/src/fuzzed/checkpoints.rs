//! Whole checkpoints: a run that is right, one of whose files has other bytes under a right checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use ember_train::config::{Config, Overrides};
use ember_train::error::Error;
use ember_train::memory::{self, Room};
use ember_train::store::checkpoint::{self, Checkpoint};
use ember_train::store::opened::{self, Opened};
use ember_train::store::record;
use ember_train::training::trainer::{Trainer, walkers_at_theta};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Target, scratch, state};

/// Memory that the runs of this target may ask for, in bytes.
const ROOM: u64 = 64 << 20;
/// Whose bytes are changed.
const FILES: [&str; 7] = [
    "state.json",
    "model.safetensors",
    "optimizer.safetensors",
    "walkers.safetensors",
    "audit.safetensors",
    "config.toml",
    "the config in state.json",
];

const COMMON: &str = r#"
steps = 6
[dataset]
kind = "gaussian_mixture"
dim = 1
means = [[-2.0], [2.0]]
weights = [0.25, 0.75]
train_size = 8
test_size = 4
[walkers]
count = 4
[output]
log_every = 2
checkpoint_every = 2
"#;
const MIXTURE: &str = r#"
[energy]
kind = "gaussian_mixture"
means = [[-0.5], [0.5]]
[kernel]
kind = "ula"
step_size = 0.1
[objective]
kind = "jarzynski"
[optimizer]
kind = "sgd"
learning_rate = 0.02
[audit]
walkers = 2
repeats = 2
every = 2
"#;
const PERCEPTRON: &str = r#"
[energy]
kind = "mlp"
hidden = [2]
confinement = 1.0
[kernel]
kind = "mala"
step_size = 0.1
[objective]
kind = "persistent_cd"
[optimizer]
kind = "adam"
learning_rate = 0.02
ema = 0.9
"#;
const FLOWS: &str = r#"
[energy]
kind = "mlp"
hidden = [2]
confinement = 1.0
[pretrain]
steps = 1
[kernel]
kind = "flow_mh"
local_steps = 1
step_size = 0.1
[objective]
kind = "flow_assisted"
proposal = { kind = "real_nvp", layers = 1, hidden = [2], mask = "checkerboard" }
[optimizer]
kind = "adam"
learning_rate = 0.02
"#;

/// After two bytes, the number of the run and that of the file: the content of the file.
pub(super) const CHECKPOINT: Target =
    Target { name: "checkpoint", run: checkpoint_files, seeds, words: state::WORDS, most_bytes: 8192 };

/// A run that is right, and its folder's files after two updates.
pub(super) struct Base {
    pub(super) checkpoint: Checkpoint,
    config: String,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// The runs, made once a process.
pub(super) fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let two = COMMON.replace("dim = 1", "dim = 2");
        let texts = [[COMMON, MIXTURE].concat(), [COMMON, PERCEPTRON].concat(), [&two, FLOWS].concat()];
        texts.iter().map(|text| base(text)).collect()
    })
}

fn base(text: &str) -> Base {
    let config = Config::from_toml(text, "base.toml").unwrap_or_else(|error| panic!("{error}"));
    let mut trainer = Trainer::new(config, &Device::flex()).expect("a trainer");
    for _ in 0..2 {
        trainer.update(true).expect("an update");
    }
    let checkpoint = trainer.to_state("flex");
    let config = trainer.config.to_toml();
    scratch::within("base", |run| {
        let dir = checkpoint::save(run, &checkpoint, 1).expect("saved");
        let read = |name: &'static str| Some((name, fs::read(dir.join(name)).ok()?));
        let files = FILES[..5].iter().filter_map(|name| read(name)).collect();
        fs::remove_dir_all(run).expect("removed");
        Base { checkpoint, config, files }
    })
}

/// `state.json` of each run.
pub(super) fn states() -> Vec<Vec<u8>> {
    bases().iter().map(|base| base.file("state.json").expect("a state").to_vec()).collect()
}

impl Base {
    fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(found, _)| *found == name).map(|(_, bytes)| bytes.as_slice())
    }

    /// What stands in the run under this name.
    fn content(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "state.json" => self.file(name).map(|file| state::rest(file).to_vec()),
            "config.toml" | "the config in state.json" => Some(self.config.clone().into_bytes()),
            _ => self.file(name).map(<[u8]>::to_vec),
        }
    }

    /// Writes the run, with other bytes in one place; false where there is no such file.
    fn write(&self, run: &Path, name: &str, content: &[u8]) -> bool {
        let dir = run.join("checkpoints/step_00000002");
        let mut changed = false;
        let mut sums = Vec::new();
        for (file, usual) in self.files.iter().filter(|(file, _)| *file != "state.json") {
            let bytes = if *file == name { content } else { usual };
            changed |= *file == name;
            scratch::write(&dir.join(file), bytes);
            let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            sums.push((*file, serde_json::json!({ "bytes": bytes.len(), "sha256": sum })));
        }
        let rest = match name {
            "state.json" => content.to_vec(),
            _ => self.content("state.json").expect("a state"),
        };
        let config_there = (name == "the config in state.json").then(|| String::from_utf8_lossy(content));
        let state = with_sums(&rest, &sums, config_there.as_deref()).unwrap_or(rest);
        scratch::write(&dir.join("state.json"), &state::signed(&state));
        let config = if name == "config.toml" { content } else { self.config.as_bytes() };
        scratch::write(&run.join("config.toml"), config);
        changed || !name.ends_with(".safetensors")
    }
}

/// The text of a state with the checksums of the files as they are; `None` where it is no JSON object.
fn with_sums(rest: &[u8], sums: &[(&str, Value)], config: Option<&str>) -> Option<Vec<u8>> {
    let whole = [br#"{"sha256": ""#.as_slice(), rest].concat();
    let mut value: Value = serde_json::from_slice(&whole).ok()?;
    let files = value.get_mut("files").and_then(Value::as_object_mut)?;
    for (name, sum) in sums {
        if let Some(entry) = files.get_mut(*name) {
            *entry = sum.clone();
        }
    }
    if let Some(text) = config {
        value.get_mut("extra")?.as_object_mut()?.insert("config".to_owned(), Value::from(text));
    }
    value.as_object_mut()?.remove("sha256");
    let text = serde_json::to_string(&value).ok()?;
    Some(format!("\",{}", text.strip_prefix('{')?).into_bytes())
}

fn checkpoint_files(bytes: &[u8]) {
    let Some((&[number, file], content)) = bytes.split_first_chunk::<2>() else { return };
    let base = &bases()[usize::from(number) % bases().len()];
    let name = FILES[usize::from(file) % FILES.len()];
    scratch::within(&format!("run{}", usize::from(number) % bases().len()), |run| {
        if base.write(run, name, content) {
            opened(run);
        }
    });
}

/// Opens a run as every command does, and goes on as `resume` does.
pub(super) fn opened(run: &Path) {
    let device = Device::flex();
    let fine = |error: &Error| assert_eq!(error.exit_code(), 2, "{error}");
    match opened::open(run, &device) {
        Ok(opened) => looked_at(opened, run),
        Err(error) => fine(&error),
    }
    match resumed(run, &device) {
        Ok(mut trainer) if trainer.step < trainer.config.steps => {
            // An update may find what the state leads to; it says so with exit code 1.
            if let Err(error) = trainer.update(true) {
                assert!(error.exit_code() <= 2, "{error}");
            }
        }
        Ok(_) => {}
        Err(error) => fine(&error),
    }
}

/// What `info`, `export` and `sample` ask.
fn looked_at(opened: Opened, run: &Path) {
    if let Some(audit) = &opened.audit {
        assert!(audit.walkers.count() / audit.log_z.len() > 0);
    }
    let _ = (opened.kernel().is_ok(), opened.model.export().len(), opened.model.param_count());
    if let Some(walkers) = opened.walkers.clone() {
        let (count, weighted) = (walkers.count(), opened.is_weighted());
        let walkers = walkers_at_theta(&opened.model, walkers, weighted);
        let drawn = ember_train::view::draw::by_weight(&walkers, 3, 0.5);
        assert!(drawn.len() == 3 && drawn.iter().all(|&i| i < count));
    }
    if let Err(error) = opened.averaged(run) {
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

fn resumed(run: &Path, device: &Device) -> Result<Trainer, Error> {
    let path: PathBuf = run.join("config.toml");
    let config = Config::load(&path, &Overrides::default())?.config;
    let room = Room { device: "flex".into(), available: Some(ROOM), shared: true, ..Room::default() };
    memory::check(&config, &room, &path)?;
    let (origin, found) = checkpoint::newest_intact(run)?;
    record::check_config(&config, &found, &path)?;
    Trainer::from_state(config, &found, &origin, device)
}

fn seeds() -> Vec<Vec<u8>> {
    let all = (0..bases().len()).flat_map(|number| (0..FILES.len()).map(move |file| (number, file)));
    let seed = |(number, file): (usize, usize)| {
        Some([vec![number as u8, file as u8], bases()[number].content(FILES[file])?].concat())
    };
    all.filter_map(seed).collect()
}
