//! Checkpoints survive everything short of losing the disk: exact round trips, damage of any byte, kills, full disks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ember_model::HostTensor;
use ember_train::store::checkpoint::{
    Checkpoint, Environment, Source, WalkersRecord, discard_after, load, newest_dir, newest_intact,
    newest_scheduled, save,
};
use proptest::prelude::*;

fn tensor(name: &str, shape: &[usize], first: f32) -> HostTensor {
    let len: usize = shape.iter().product();
    HostTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        values: (0..len).map(|i| first + i as f32 / 3.0).collect(),
    }
}

fn record(count: usize, dim: usize, first: f32) -> WalkersRecord {
    let values = |len: usize, at: f32| (0..len).map(|i| first + at + i as f32 / 7.0).collect();
    WalkersRecord {
        count,
        dim,
        position: values(count * dim, 0.0),
        energy: values(count, 1.0),
        energy_grad: values(count * dim, 2.0),
        log_weights: values(count, 3.0),
        log_weights_compensation: values(count, 4.0),
        ancestor: (0..count as i64).rev().collect(),
        log_z: 0.1 + f64::from(first),
        resamplings: 12,
    }
}

fn checkpoint(step: u64) -> Checkpoint {
    Checkpoint {
        step,
        seed: u64::MAX,
        // Not in alphabetical order: the order of the parameters comes back.
        model: vec![
            tensor("layers.10.weight", &[2, 3], 0.5),
            tensor("layers.2.bias", &[], -1.0),
            tensor("empty", &[0, 4], 0.0),
        ],
        energy_config: "dim = 3\nkind = \"mlp\"\n".to_owned(),
        theta: vec![tensor("b", &[2], step as f32), tensor("a", &[4], 9.0)],
        optimizer: vec![tensor("momentum.b", &[2], 7.0)],
        optimizer_counters: BTreeMap::from([("step".to_owned(), u64::MAX - 1)]),
        walkers: Some(record(11, 3, step as f32)),
        audit: vec![record(5, 3, 1.0), record(4, 3, 2.0)],
        environment: Environment { ember_version: "0.1.0".to_owned(), device: "flex".to_owned(), threads: 2 },
        extra: serde_json::json!({"time_s": 0.1, "rollbacks": 3}),
    }
}

fn run() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// f32 by bits: NaN payloads and signed zeros included.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn round_trip_is_exact() {
    let run = run();
    let saved = checkpoint(1000);
    let dir = save(run.path(), &saved, 3).unwrap();
    assert_eq!(dir, run.path().join("checkpoints/step_00001000"));
    assert_eq!(load(&dir).unwrap(), saved);
    assert_eq!(newest_intact(run.path()).unwrap(), (dir.clone(), saved));
    assert_eq!(newest_dir(run.path()).unwrap(), dir);
    let latest = fs::read_to_string(run.path().join("checkpoints/latest")).unwrap();
    assert_eq!(latest.trim(), "step_00001000");
    let bytes = fs::read(dir.join("model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    assert_eq!(metadata["ember.step"], "1000");
    assert_eq!(metadata["ember.version"], "0.1.0");
    let walkers = fs::read(dir.join("walkers.safetensors")).unwrap();
    let walkers = safetensors::SafeTensors::deserialize(&walkers).unwrap();
    let mut found = walkers.names();
    found.sort_unstable();
    assert_eq!(
        found,
        ["ancestor", "energy", "energy_grad", "log_weights", "log_weights_compensation", "position"]
    );
}

#[test]
fn equal_states_give_equal_bytes() {
    let (one, two) = (run(), run());
    let one = save(one.path(), &checkpoint(7), 1).map(|dir| (one, dir)).unwrap();
    for _ in 0..8 {
        let dir = save(two.path(), &checkpoint(7), 1).unwrap();
        for name in names(&dir) {
            assert_eq!(fs::read(one.1.join(&name)).unwrap(), fs::read(dir.join(&name)).unwrap(), "{name}");
        }
    }
}

#[test]
fn without_walkers_there_is_no_file_of_them() {
    let run = run();
    let saved = Checkpoint { walkers: None, audit: Vec::new(), ..checkpoint(1) };
    let dir = save(run.path(), &saved, 1).unwrap();
    assert_eq!(names(&dir), ["model.safetensors", "optimizer.safetensors", "state.json"]);
    assert_eq!(load(&dir).unwrap(), saved);
}

#[test]
fn only_the_newest_are_kept_and_later_ones_are_given_up() {
    let run = run();
    let folder = run.path().join("checkpoints");
    for step in [100, 200, 300, 400] {
        save(run.path(), &checkpoint(step), 2).unwrap();
    }
    assert_eq!(names(&folder), ["latest", "step_00000300", "step_00000400"]);
    discard_after(run.path(), 300).unwrap();
    assert_eq!(names(&folder), ["latest", "step_00000300"]);
    assert_eq!(newest_intact(run.path()).unwrap().1.step, 300);
    save(run.path(), &checkpoint(400), 2).unwrap();
    // After a resume from 100, say: what lies ahead belongs to another trajectory.
    save(run.path(), &checkpoint(200), 1).unwrap();
    assert_eq!(names(&folder), ["latest", "step_00000200"]);
    discard_after(tempfile::tempdir().unwrap().path(), 0).unwrap();
}

#[test]
fn a_checkpoint_of_the_same_step_is_replaced() {
    let run = run();
    save(run.path(), &checkpoint(5), 3).unwrap();
    let other = Checkpoint { seed: 1, ..checkpoint(5) };
    let dir = save(run.path(), &other, 3).unwrap();
    assert_eq!(load(&dir).unwrap(), other);
    assert_eq!(names(&run.path().join("checkpoints")), ["latest", "step_00000005"]);
}

#[test]
fn a_killed_process_leaves_nothing_that_counts() {
    let run = run();
    save(run.path(), &checkpoint(1), 3).unwrap();
    let folder = run.path().join("checkpoints");
    let stale = folder.join(".tmp-step_00000002-abc");
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("model.safetensors"), b"half").unwrap();
    // A folder without its state, as a removal cut short leaves it.
    fs::create_dir(folder.join("step_00000009")).unwrap();
    assert_eq!(newest_intact(run.path()).unwrap().1.step, 1);
    assert_eq!(newest_dir(run.path()).unwrap(), folder.join("step_00000001"));
    save(run.path(), &checkpoint(2), 3).unwrap();
    assert!(!stale.exists());
    // `latest` says nothing useful.
    for latest in ["", "step_00000077", "../../etc", "\u{0}"] {
        fs::write(folder.join("latest"), latest).unwrap();
        assert_eq!(newest_intact(run.path()).unwrap().1.step, 2);
    }
}

#[test]
fn every_truncation_and_every_flip_is_found() {
    let run = run();
    save(run.path(), &checkpoint(1), 3).unwrap();
    let dir = save(run.path(), &checkpoint(2), 3).unwrap();
    for name in names(&dir) {
        let path = dir.join(&name);
        let good = fs::read(&path).unwrap();
        let caught = |what: &str| {
            let error = load(&dir).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(&name), "{what}: {error}");
        };
        for (at, _) in good.iter().enumerate().step_by(23) {
            fs::write(&path, &good[..at]).unwrap();
            caught(&format!("cut at {at}"));
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            caught(&format!("flip at {at}"));
        }
        fs::write(&path, [&good[..], b" "].concat()).unwrap();
        caught("longer");
        assert_eq!(newest_intact(run.path()).unwrap().1.step, 1);
        fs::remove_file(&path).unwrap();
        caught("missing");
        assert_eq!(newest_intact(run.path()).unwrap().1.step, 1);
        fs::write(&path, &good).unwrap();
        assert_eq!(newest_intact(run.path()).unwrap().1.step, 2);
    }
}

#[test]
fn when_none_is_left_each_is_named() {
    let run = run();
    for step in [1, 2] {
        let dir = save(run.path(), &checkpoint(step), 3).unwrap();
        fs::write(dir.join("walkers.safetensors"), b"").unwrap();
    }
    let message = newest_intact(run.path()).unwrap_err().to_string();
    assert!(message.contains("step_00000001") && message.contains("step_00000002"), "{message}");
    assert!(message.contains("0 bytes found"), "{message}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(newest_intact(empty.path()).unwrap_err().exit_code(), 2);
}

/// A file that cannot be opened, whoever asks: a link to itself.
fn make_unreadable(path: &Path) {
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap();
}

/// Another format, under a checksum that is right.
fn make_newer(dir: &Path) {
    let path = dir.join("state.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"format\": 1,", "\"format\": 99,");
    let (head, digits) = (text.find(": \"").unwrap() + 3, 64);
    let zeroed = [&text[..head], &"0".repeat(digits), &text[head + digits..]].concat();
    let sum = sha256(zeroed.as_bytes());
    fs::write(&path, [&text[..head], &sum, &text[head + digits..]].concat()).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let output = Command::new("sha256sum").arg(file.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn what_cannot_be_read_is_no_damage_and_nobody_goes_back_behind_it() {
    type Spoil = fn(&Path);
    let unreadable: Spoil = |dir| make_unreadable(&dir.join("walkers.safetensors"));
    for (words, spoil) in [("cannot be read", unreadable), ("format 99", make_newer as Spoil)] {
        let run = run();
        save(run.path(), &checkpoint(10), 3).unwrap();
        spoil(&save(run.path(), &checkpoint(20), 3).unwrap());
        for error in [newest_intact(run.path()).unwrap_err(), newest_scheduled(run.path(), 10).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("not damaged") && text.contains("mv "), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
        // What is asked for by its step is another matter.
        assert_eq!(newest_scheduled(run.path(), 15).unwrap(), None);
    }
}

#[test]
fn nothing_is_deleted_that_was_not_understood() {
    let run = run();
    let folder = run.path().join("checkpoints");
    for step in [10, 20, 30, 40, 50] {
        save(run.path(), &checkpoint(step), 9).unwrap();
    }
    let dir = |step: u64| folder.join(format!("step_{step:08}"));
    make_unreadable(&dir(10).join("model.safetensors"));
    make_newer(&dir(30));
    fs::write(dir(40).join("walkers.safetensors"), b"cut").unwrap();
    discard_after(run.path(), 20).unwrap();
    assert_eq!(
        names(&folder),
        ["latest", "step_00000010", "step_00000020", "step_00000030.aside", "step_00000040.aside"]
    );
    assert_eq!(fs::read(folder.join("step_00000040.aside/walkers.safetensors")).unwrap(), b"cut");
    // The same step once more, and retention.
    fs::create_dir(dir(40)).unwrap();
    save(run.path(), &checkpoint(30), 1).unwrap();
    let found = names(&folder);
    assert!(found.contains(&"step_00000040.aside-2".to_owned()), "{found:?}");
    assert!(found.contains(&"step_00000010.aside".to_owned()), "{found:?}");
    assert!(!found.contains(&"step_00000020".to_owned()), "{found:?}");
    assert_eq!(newest_intact(run.path()).unwrap().1.step, 30);
}

#[test]
fn the_newest_complete_one_counts_whatever_latest_says() {
    let run = run();
    for step in [10, 20] {
        save(run.path(), &checkpoint(step), 9).unwrap();
    }
    fs::write(run.path().join("checkpoints/latest"), "step_00000010\n").unwrap();
    assert_eq!(newest_intact(run.path()).unwrap().1.step, 20);
}

#[test]
fn paths_are_told_apart() {
    let run = run();
    let dir = save(run.path(), &checkpoint(3), 1).unwrap();
    let open = |path: &Path| Source::open(path);
    let source = open(run.path()).unwrap();
    assert_eq!(source, Source::Run { dir: run.path().to_owned(), checkpoint: dir.clone() });
    assert_eq!(source.checkpoint().unwrap().unwrap().1, checkpoint(3));
    assert_eq!(open(&dir).unwrap(), Source::Checkpoint { dir: dir.clone() });
    let file = dir.join("model.safetensors");
    assert_eq!(open(&file).unwrap(), Source::WeightFile { path: file });
    let empty = tempfile::tempdir().unwrap();
    let wrong: [PathBuf; 5] = [
        empty.path().to_owned(),
        empty.path().join("nothing"),
        run.path().join("checkpoints"),
        dir.join("state.json"),
        PathBuf::from("/dev/null"),
    ];
    for path in wrong {
        let error = open(&path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

const FULL_DISK: &str = "EMBER_TEST_FULL_DISK";

/// Runs in a process of its own, see below: files longer than 4 KiB cannot be written.
#[test]
fn full_disk_child() {
    let Some(folder) = std::env::var_os(FULL_DISK) else {
        return;
    };
    let large = Checkpoint { walkers: Some(record(2000, 3, 0.0)), ..checkpoint(2) };
    let error = save(Path::new(&folder), &large, 1).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert!(error.to_string().contains("walkers.safetensors"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_full_disk_leaves_the_earlier_checkpoint() {
    let run = run();
    let dir = save(run.path(), &checkpoint(1), 1).unwrap();
    // A limit on the file size with its signal ignored fails a write as a full disk does.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" full_disk_child --exact"])
        .arg(std::env::current_exe().unwrap())
        .env(FULL_DISK, run.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(names(&run.path().join("checkpoints")), ["latest", "step_00000001"]);
    assert_eq!(newest_intact(run.path()).unwrap(), (dir, checkpoint(1)));
}

fn any_f32() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_state_comes_back(
        position in prop::collection::vec(any_f32(), 0..40),
        ancestor in prop::collection::vec(any::<i64>(), 40),
        log_z in any::<u64>().prop_map(f64::from_bits),
        seconds in any::<f64>(),
        seed in any::<u64>(),
        step in any::<u64>(),
        text in ".*",
    ) {
        let count = position.len();
        let saved = Checkpoint {
            step,
            seed,
            energy_config: text.clone(),
            walkers: Some(WalkersRecord {
                count,
                dim: 1,
                energy: position.clone(),
                energy_grad: position.clone(),
                log_weights: position.clone(),
                log_weights_compensation: position.clone(),
                position: position.clone(),
                ancestor: ancestor[..count].to_vec(),
                log_z,
                resamplings: seed,
            }),
            extra: serde_json::json!({"text": text, "seconds": seconds}),
            ..Checkpoint::default()
        };
        let run = run();
        let loaded = load(&save(run.path(), &saved, 1).unwrap()).unwrap();
        let found = loaded.walkers.as_ref().unwrap();
        prop_assert_eq!(bits(&found.position), bits(&position));
        prop_assert_eq!(bits(&found.log_weights_compensation), bits(&position));
        prop_assert_eq!(&found.ancestor, &ancestor[..count]);
        prop_assert!(found.log_z.to_bits() == log_z.to_bits() || (found.log_z.is_nan() && log_z.is_nan()));
        prop_assert_eq!((loaded.step, loaded.seed, found.resamplings), (step, seed, seed));
        prop_assert_eq!((loaded.energy_config, loaded.extra), (saved.energy_config, saved.extra));
    }

    #[test]
    fn any_flip_is_found(file in 0..5_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let run = run();
        save(run.path(), &checkpoint(1), 2).unwrap();
        let dir = save(run.path(), &checkpoint(2), 2).unwrap();
        let path = dir.join(&names(&dir)[file]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        prop_assert_eq!(newest_intact(run.path()).unwrap().1, checkpoint(1));
    }
}
