//! `ember data check`: which data sets a folder holds, and what is wrong with them.

use std::fmt::Write;

use ember_model::SampleShape;

use crate::cli::DataCommand;
use crate::dataset::detect;
use crate::dataset::inventory::{Inventory, inspect};
use crate::error::Error;
use crate::logging;

/// How many problems of one data set are shown.
const SHOWN: usize = 10;

pub(super) fn run(command: &DataCommand) -> Result<(), Error> {
    logging::init();
    let DataCommand::Check(args) = command;
    let found = inspect(&args.dir)?;
    if found.is_empty() {
        return Err(detect::nothing(&args.dir));
    }
    super::print(&found.iter().map(describe).collect::<Vec<_>>().join("\n"))?;
    let wrong: usize = found.iter().map(|inventory| inventory.problems.len()).sum();
    let Some(first) = found.into_iter().flat_map(|inventory| inventory.problems).next() else {
        return Ok(());
    };
    if wrong == 1 {
        return Err(first);
    }
    Err(Error::data(&args.dir, format!("{wrong} things are wrong, listed above; the first: {first}")))
}

fn describe(inventory: &Inventory) -> String {
    let Inventory { dir, kind, shape, .. } = inventory;
    let mut text = match *kind {
        "" => format!("{}\n", dir.display()),
        kind => format!("{}: kind = \"{kind}\", images {}\n", dir.display(), SampleShape::Image(*shape)),
    };
    for (split, counts) in ["train", "test"].iter().zip(&inventory.counts) {
        let total: usize = counts.iter().sum();
        if total == 0 {
            continue;
        }
        let _ = writeln!(text, "  {split:<6}{total} images");
        for (name, &count) in inventory.class_names.iter().zip(counts) {
            let share = 100.0 * count as f64 / total as f64;
            let _ = writeln!(text, "        {name:<12} {count:>7}  {share:5.2} %");
        }
    }
    for (path, sum, known) in &inventory.files {
        let name = path.strip_prefix(dir).unwrap_or(path).display();
        let known = known.unwrap_or("no official file known here");
        let _ = writeln!(text, "  md5   {sum}  {name} ({known})");
    }
    if let Some(note) = &inventory.note {
        let _ = writeln!(text, "  note  {note}");
    }
    for problem in inventory.problems.iter().take(SHOWN) {
        let _ = writeln!(text, "  wrong {problem}");
    }
    if inventory.problems.len() > SHOWN {
        let _ = writeln!(text, "  wrong … {} more", inventory.problems.len() - SHOWN);
    }
    if inventory.problems.is_empty() {
        text.push_str("  nothing wrong\n");
    }
    text
}
