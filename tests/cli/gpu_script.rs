//! `benches/gpu.sh` on its tiny size: every row of ours runs, what is missing is named, and a table is there however it ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::{Scratch, TOY};

/// The script in a folder of its own; `None` where there is no Python for it.
fn script(scratch: &Scratch, device: &str, env: &[(&str, &str)], rows: &[&str]) -> Option<Command> {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no python3");
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/gpu.sh");
    let mut command = Command::new(path);
    command
        .arg(env!("CARGO_BIN_EXE_ember"))
        .arg(scratch.path("no-peers"))
        .arg(scratch.path("out"))
        .args(rows);
    command.env("TINY", "1").env("DEVICE", device).env("RAYON_NUM_THREADS", "1").envs(env.iter().copied());
    command.env_remove("DATA").env_remove("ROUNDS").env_remove("TIMEOUT").env_remove("RUST_LOG");
    // Peers of this machine are no part of the test.
    command.env("TORCH_PYTHON", "no-such-python").env("JAX_PYTHON", "no-such-python");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

/// The table, which is on stdout and in a file.
fn table(scratch: &Scratch, output: &Output) -> String {
    let text = std::fs::read_to_string(scratch.path("out/table.md")).unwrap_or_else(|error| {
        panic!("no table: {error}\n{}", String::from_utf8_lossy(&output.stderr));
    });
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), text.trim_end());
    text
}

/// Rows with a figure of ours, by the files of results.
fn measured(out: PathBuf) -> Vec<String> {
    let files = std::fs::read_dir(out).expect("a folder").map(|entry| entry.expect("an entry").path());
    let rows = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let has_ours = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("results");
        let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        records
            .into_iter()
            .any(|record| record["contender"] == "ember" && record["result"]["error"].is_null())
    };
    let mut found: Vec<String> = rows
        .filter(has_ours)
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

#[test]
fn every_row_of_ours_runs_and_peers_that_are_missing_are_named() {
    let scratch = Scratch::new(TOY);
    let Some(mut command) = script(&scratch, "flex", &[], &[]) else { return };
    let output = command.output().expect("it runs");
    let text = table(&scratch, &output);
    assert!(output.status.success(), "{text}");
    let rows = [
        "conv_f32",
        "mala_4096",
        "mixture",
        "real_nvp",
        "resample",
        "start",
        "ula_1m",
        "ula_4096",
        "ula_65536",
        "update_f32",
        "update_mlp",
    ];
    assert_eq!(measured(scratch.path("out")), rows, "{text}");
    for words in [
        "no interpreter no-such-python",
        "rows are within what is allowed",
        "ember on flex",
        "TINY: no figure",
    ] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
    // The same call runs nothing again.
    let output = command.output().expect("it runs");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("== ula_4096"));
    let rows = ["ula_4096", "no_such_row"];
    let output = script(&scratch, "flex", &[], &rows).expect("as before").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no row no_such_row; rows: ula_4096 update_mlp")
    );
}

/// A few rows on the GPU path, with software Vulkan where there is no other.
#[test]
fn rows_run_on_the_gpu_path() {
    let scratch = Scratch::new(TOY);
    if !scratch.ok(&["devices"]).contains("wgpu:0") {
        assert_ne!(std::env::var("EMBER_REQUIRE_GPU").as_deref(), Ok("1"), "no Vulkan adapter");
        return;
    }
    // The check of the device has a test of its own, and 15 s here are not enough for it.
    let Some(mut command) = script(&scratch, "wgpu", &[("BUDGET", "60")], &["ula_4096", "resample", "start"])
    else {
        return;
    };
    let output = command.output().expect("it runs");
    let text = table(&scratch, &output);
    assert!(output.status.success(), "{text}");
    assert_eq!(measured(scratch.path("out")), ["resample", "start", "ula_4096"], "{text}");
}

#[test]
fn time_that_is_over_leaves_a_table() {
    let scratch = Scratch::new(TOY);
    let Some(mut command) = script(&scratch, "flex", &[("BUDGET", "0.5")], &[]) else { return };
    let output = command.output().expect("it runs");
    let text = table(&scratch, &output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("not reached: the 0.5 s (BUDGET) were over; the same call goes on"), "{text}");
}

#[test]
fn a_signal_leaves_a_table_and_no_program() {
    let scratch = Scratch::new(TOY);
    let Some(mut command) = script(&scratch, "flex", &[], &[]) else { return };
    let child = command.process_group(0).spawn().expect("it starts");
    let first = scratch.path("out/ula_4096.jsonl");
    for _ in 0..600 {
        if first.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = child.id();
    let killed = Command::new("kill").args(["-TERM", &id.to_string()]).status().expect("kill");
    assert!(killed.success());
    let output = ended(child);
    let text = table(&scratch, &output);
    // Fast machines may be through with all of it.
    assert!(matches!(output.status.code(), Some(143 | 0)), "{:?}", output.status);
    assert!(output.status.success() || text.contains("stopped by SIGTERM"), "{text}");
}

fn ended(child: Child) -> Output {
    child.wait_with_output().expect("it ends")
}
