//! `ember report`: one self-contained HTML page about a run.

use crate::cli::ReportArgs;
use crate::error::Error;
use crate::{logging, view::report};

pub(super) fn run(args: &ReportArgs) -> Result<(), Error> {
    logging::init();
    let out = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    report::write(&args.run, &out)?;
    super::print(&format!("{}\n", out.display()))
}
