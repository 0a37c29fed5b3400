//! Checkpoints whose parts agree with each other, and hold whatever numbers: sizes, indices, counters, weights.

use burn::tensor::Device;
use ember_model::{EnergyModel, EnergySpec, HostTensor};
use ember_train::store::checkpoint::{self, Checkpoint, WalkersRecord};

use super::{Target, checkpoints, scratch};

/// The number of a run, then changes of five bytes: which number is changed, which of its elements, and to what (three bytes).
pub(super) const POPULATIONS: Target =
    Target { name: "populations", run: populations, seeds, words: &["\u{7f}", "\0\0"], most_bytes: 64 };

fn populations(bytes: &[u8]) {
    let Some((&number, changes)) = bytes.split_first() else { return };
    let bases = checkpoints::bases();
    let number = usize::from(number) % bases.len();
    let mut found = bases[number].checkpoint.clone();
    for change in changes.as_chunks::<5>().0 {
        changed(&mut found, *change);
    }
    // The folder's name holds the step; an earlier input's would be found first.
    let step = std::mem::replace(&mut found.step, 2);
    scratch::within(&format!("populations{number}"), |run| {
        if found.step == step {
            let config = found.extra["config"].as_str().unwrap_or_default();
            scratch::write(&run.join("config.toml"), config.as_bytes());
        }
        found.step = step;
        checkpoint::save(run, &found, 1).expect("saved");
        checkpoints::opened(run);
        std::fs::remove_dir_all(run.join("checkpoints")).expect("removed");
    });
}

/// A number at the edges, or any float.
fn edge([kind, high, low]: [u8; 3]) -> (f32, i64) {
    let edges = [0, 1, -1, 2, i64::MAX, i64::MIN, i64::from(i32::MAX), i64::from(u32::MAX), 1 << 33];
    let float = match kind % 8 {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => f32::MAX,
        4 => 0.0,
        _ => f32::from_bits(u32::from_be_bytes([high, low, 0, 0])),
    };
    let whole = if kind < 128 {
        edges[usize::from(kind) % edges.len()]
    } else {
        i64::from(high) << 8 | i64::from(low)
    };
    (float, whole)
}

fn changed(found: &mut Checkpoint, [part, at, rest @ ..]: [u8; 5]) {
    let (float, whole) = edge(rest);
    let set = |values: &mut [f32]| {
        let len = values.len().max(1);
        values.iter_mut().skip(usize::from(at) % len).take(1).for_each(|value| *value = float);
    };
    let pick = |len: usize| usize::from(at) % len.max(1);
    match part % 13 {
        0 => found.step = whole as u64,
        1 => found.seed = whole as u64,
        2 => found.model.iter_mut().skip(pick(found.theta.len())).take(1).for_each(|t| set(&mut t.values)),
        3 => found.theta.iter_mut().skip(usize::from(rest[0]) % 3).take(1).for_each(|t| set(&mut t.values)),
        4 => {
            found.optimizer.iter_mut().skip(usize::from(rest[2]) % 9).take(1).for_each(|t| set(&mut t.values))
        }
        5 => found.optimizer_counters.values_mut().for_each(|counter| *counter = whole as u64),
        6 => drop(found.walkers.as_mut().map(|walkers| population(walkers, at, rest))),
        7 => drop(found.audit.first_mut().map(|walkers| population(walkers, at, rest))),
        8 => drop(found.walkers.take()),
        9 => found.audit.truncate(0),
        10 => extra(&mut found.extra, at, float, whole),
        11 => proposal(found, at),
        _ => {
            let pick = pick(found.optimizer.len());
            drop((!found.optimizer.is_empty()).then(|| found.optimizer.remove(pick)));
        }
    }
}

/// Puts another energy in the place of the proposal flows, with all its tensors.
fn proposal(found: &mut Checkpoint, at: u8) {
    let texts = [
        "dim = 2\nkind = \"mlp\"\nhidden = [2]\n",
        "dim = 4\nkind = \"real_nvp\"\nlayers = 1\nhidden = [2]\n",
        "shape = [1, 2, 2]\nkind = \"multiscale_real_nvp\"\nlevels = 1\ncouplings = 1\nchannels = 1\n",
    ];
    let text = texts[usize::from(at) % texts.len()];
    let spec = EnergySpec::from_metadata(text).expect("a table");
    let tensors = EnergyModel::init(spec, 0, &Device::flex()).expect("an energy").export();
    found.optimizer.retain(|tensor| !tensor.name.starts_with("proposal."));
    found.optimizer_counters.retain(|name, _| !name.starts_with("proposal."));
    for k in 0..2 {
        let named = |tensor: &HostTensor| HostTensor {
            name: format!("proposal.{k}.flow.{}", tensor.name),
            ..tensor.clone()
        };
        found.optimizer.extend(tensors.iter().map(named));
    }
    found.extra["proposal"]["flow"] = text.into();
}

fn population(walkers: &mut WalkersRecord, at: u8, rest: [u8; 3]) {
    let (float, whole) = edge(rest);
    let place = usize::from(rest[1]) % 4;
    let set = |values: &mut Vec<f32>| values.iter_mut().skip(place).take(1).for_each(|value| *value = float);
    match at % 9 {
        0 => set(&mut walkers.position),
        1 => set(&mut walkers.energy),
        2 => set(&mut walkers.energy_grad),
        3 => set(&mut walkers.log_weights),
        4 => set(&mut walkers.log_weights_compensation),
        5 => walkers.ancestor.iter_mut().skip(place).take(1).for_each(|ancestor| *ancestor = whole),
        6 => walkers.log_z = f64::from(float),
        7 => walkers.resamplings = whole as u64,
        _ => resize(walkers, usize::from(rest[1]) % 6, usize::from(rest[2]) % 4),
    }
}

fn resize(walkers: &mut WalkersRecord, count: usize, dim: usize) {
    (walkers.count, walkers.dim) = (count, dim);
    for (values, len) in [
        (&mut walkers.position, count * dim),
        (&mut walkers.energy, count),
        (&mut walkers.energy_grad, count * dim),
        (&mut walkers.log_weights, count),
        (&mut walkers.log_weights_compensation, count),
    ] {
        values.resize(len, 0.25);
    }
    walkers.ancestor.resize(count, 0);
}

fn extra(extra: &mut serde_json::Value, at: u8, float: f32, whole: i64) {
    let keys = ["audit_log_z", "flushes", "rollbacks", "doubts", "step_size", "proposal", "config"];
    let key = keys[usize::from(at) % keys.len()];
    let value = match at / 32 {
        0 => serde_json::json!(whole as u64),
        1 => serde_json::json!(whole),
        2 => serde_json::json!(f64::from(float)),
        3 => serde_json::json!([f64::from(float), f64::from(float)]),
        4 => serde_json::json!([]),
        5 => serde_json::json!("text"),
        6 => {
            serde_json::json!({ "accept_rate": f64::from(float), "collapsed": true, "count": whole as u64, "flow": extra["proposal"]["flow"] })
        }
        _ => serde_json::Value::Null,
    };
    extra[key] = value;
}

fn seeds() -> Vec<Vec<u8>> {
    let changes: [[u8; 5]; 8] = [
        [0, 0, 3, 0, 0],
        [5, 0, 4, 0, 0],
        [6, 5, 2, 1, 0],
        [6, 8, 0, 4, 1],
        [7, 8, 0, 4, 1],
        [10, 3, 1, 0, 0],
        [10, 199, 1, 0, 0],
        [4, 0, 9, 1, 1],
    ];
    let seed = |run: u8, change: &[u8; 5]| [&[run], &change[..]].concat();
    (0..3).flat_map(|run| changes.iter().map(move |change| seed(run, change))).collect()
}
