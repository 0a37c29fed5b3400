//! Runs the commands behind the figures of `benches/RESULTS.md` again and prints what no longer holds; `benches/verify.sh` builds what they
//! need first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use ember_benches::verify::{Figures, Row, Verdict};

const USAGE: &str = "\
benches/verify.sh [ROW...]    runs the commands behind the figures of benches/RESULTS.md at full size, and prints the figures that no longer hold
benches/verify.sh --list      the rows, with their minutes on one core and what they need

Without names: every row that this machine can run, but for speeds, which hold on the machine they were measured on.
What the commands print is kept in FIGURES (figures/): remove a file there to run its row again. Ends with 1 where a figure does not hold.";

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(benches.join(name)).expect("a file of the benches' folder");
    let figures: Figures = toml::from_str(&read("figures.toml")).expect("rows and figures");
    let results = read("RESULTS.md");
    if names.iter().any(|name| name.starts_with('-') && name != "--list") {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    if names.iter().any(|name| name == "--list") {
        for row in &figures.row {
            let needs =
                if row.needs.is_empty() { String::new() } else { format!(", needs {}", row.needs.join(" ")) };
            let speed = if row.is_speed { ", a speed: runs where it is named" } else { "" };
            println!("{}: {} figures, {} minutes{needs}{speed}", row.name, row.figure.len(), row.minutes);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(name) = names.iter().find(|name| !figures.row.iter().any(|row| row.name == **name)) {
        let known: Vec<&str> = figures.row.iter().map(|row| row.name.as_str()).collect();
        eprintln!("no row '{name}'; rows: {}", known.join(" "));
        return ExitCode::from(2);
    }
    let workspace = benches.parent().expect("the workspace's folder");
    let folder =
        workspace.join(std::env::var_os("FIGURES").map_or_else(|| PathBuf::from("figures"), PathBuf::from));
    fs::create_dir_all(&folder).expect("the folder of what the commands print");
    let (mut held, mut differ) = (0, 0);
    for row in &figures.row {
        let is_named = names.contains(&row.name);
        if !(is_named || names.is_empty() && !row.is_speed) {
            continue;
        }
        if let Some(missing) = row.needs.iter().find(|name| std::env::var_os(name).is_none()) {
            println!("{}: not run, {missing} is not set", row.name);
            continue;
        }
        let output = match run(row, workspace, &folder) {
            Ok(output) => output,
            Err(error) => {
                println!("{}: {error}", row.name);
                differ += 1;
                continue;
            }
        };
        for figure in &row.figure {
            let verdict = figure
                .written(&results)
                .and_then(|written| Ok(figure.verdict(written, figure.found(&output)?)))
                .unwrap_or_else(Verdict::Differs);
            match verdict {
                Verdict::Holds => held += 1,
                Verdict::Differs(what) => {
                    differ += 1;
                    println!(
                        "{}, {}: RESULTS.md says \"{}\": {what}",
                        row.name,
                        figure.what,
                        figure.written.trim()
                    );
                }
            }
        }
    }
    println!("{held} figures hold, {differ} do not");
    if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a row's command prints, from its file where there is one.
fn run(row: &Row, workspace: &Path, folder: &Path) -> Result<String, String> {
    let kept = folder.join(format!("verify-{}.txt", row.name));
    if let Ok(output) = fs::read_to_string(&kept) {
        return Ok(output);
    }
    eprintln!("== {} (about {} minutes)", row.name, row.minutes);
    let start = Instant::now();
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &row.command])
        .current_dir(workspace)
        .env("FIGURES", folder)
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("bash: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("   {:.1} minutes", start.elapsed().as_secs_f64() / 60.0);
    if !output.status.success() {
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        return Err(format!(
            "its command ended with {}: {}\n{}",
            output.status,
            row.command,
            tail.join("\n")
        ));
    }
    fs::write(&kept, &text).map_err(|error| format!("{}: {error}", kept.display()))?;
    Ok(text)
}
