//! The rows for people and for programs.

use serde_json::{Value, json};

use super::Row;
use crate::device::Selected;
use crate::error::Error;

/// The table's first line.
pub const HEADER: &str =
    "what                                    against     error   allowed     first     again\n";

/// A row of the table, with its line end. Times are milliseconds: the first time, with kernels compiled, and the second.
pub fn line(row: &Row) -> String {
    let verdict = match (&row.fault, row.is_ok()) {
        (Some(fault), _) => format!("OFF: {fault}"),
        (None, true) => "ok".to_owned(),
        (None, false) => "OFF".to_owned(),
    };
    format!(
        "{:<40}{:<7} {:>9.1e} {:>9.1e} {:>6.0} ms {:>6.1} ms  {verdict}\n",
        row.what, row.against, row.error, row.allowed, row.first_ms, row.again_ms
    )
}

/// One object: the device, whether all is right, and the rows.
pub fn to_json(selected: &Selected, rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let mut value = json!({
            "what": row.what,
            "against": row.against,
            // JSON has no infinity.
            "error": row.error.is_finite().then_some(row.error),
            "allowed": row.allowed,
            "first_ms": row.first_ms,
            "again_ms": row.again_ms,
            "ok": row.is_ok(),
        });
        if let Some(fault) = &row.fault {
            value["fault"] = json!(fault);
        }
        value
    };
    json!({
        "device": selected.label,
        "name": selected.name,
        "ok": rows.iter().all(Row::is_ok),
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

/// Whether the device computes as it should.
///
/// # Errors
/// [`Error::Failed`] with the names of the rows that are off, and what to do.
pub fn verdict(selected: &Selected, rows: &[Row]) -> Result<(), Error> {
    let off: Vec<&str> = rows.iter().filter(|row| !row.is_ok()).map(|row| row.what.as_str()).collect();
    if off.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} of {} rows are off on {}: {}. Results of this device cannot be trusted. Update its driver; try another build \
         (feature `wgpu`: WGSL, `vulkan`: SPIR-V, `cuda`); where it stays off, report this table. Until then take --device flex",
        off.len(),
        rows.len(),
        selected.name,
        off.join("; ")
    )))
}
