//! `ember devices`: every device this build can use, and the one `auto` takes; whether one computes right.

use std::fmt::Write;
use std::time::Instant;

use ember_model::Precision;

use crate::cli::DevicesArgs;
use crate::error::Error;
use crate::{bench::device_check, device, logging};

pub(super) fn run(args: &DevicesArgs) -> Result<(), Error> {
    logging::init();
    match &args.check {
        Some(spec) => check(spec, args.json),
        None => list(),
    }
}

fn list() -> Result<(), Error> {
    let mut text = String::new();
    for info in device::list() {
        let mark = if info.auto { "  ← auto" } else { "" };
        let precisions = match device::precisions(&info) {
            Ok(found) => found.iter().map(Precision::to_string).collect::<Vec<_>>().join(", "),
            Err(_) => "cannot be opened".to_owned(),
        };
        let usable = if info.usable { "" } else { "  (not usable)" };
        let _ = writeln!(
            text,
            "{:<9} {:<10} {} ({precisions}){usable}{mark}",
            info.label, info.kind, info.description
        );
    }
    super::print(&text)
}

fn check(spec: &str, json: bool) -> Result<(), Error> {
    let selected = device::select(spec)?;
    let start = Instant::now();
    let rows = if json {
        let rows = device_check::run(&selected, None, &mut |_| ());
        super::print(&format!("{}\n", device_check::to_json(&selected, &rows)))?;
        rows
    } else {
        super::print(&format!("{}\n\n{}", selected.name, device_check::HEADER))?;
        // Row by row: a table that stops says where a device hangs.
        let mut printed = Ok(());
        let rows = device_check::run(&selected, None, &mut |row| {
            if printed.is_ok() {
                printed = super::print(&device_check::line(row));
            }
        });
        printed?;
        let right = rows.iter().filter(|row| row.is_ok()).count();
        let seconds = start.elapsed().as_secs_f64();
        super::print(&format!(
            "\n{right} of {} rows are within what is allowed, in {seconds:.1} s\n",
            rows.len()
        ))?;
        rows
    };
    device_check::verdict(&selected, &rows)
}
