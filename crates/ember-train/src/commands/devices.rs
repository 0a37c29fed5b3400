//! `ember devices`: every device this build can use, and the one `auto` takes.

use std::fmt::Write;

use ember_model::Precision;

use crate::error::Error;
use crate::{device, logging};

pub(super) fn run() -> Result<(), Error> {
    logging::init();
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
