//! Evaluations as a run folder keeps them.

use std::path::Path;

use crate::error::Error;
use crate::judging::eval::Evaluation;
use crate::store::metrics::EvalWriter;

/// Adds an evaluation to the `eval.jsonl` of its run. A read-only run folder can still be judged.
pub(super) fn keep(run: &Path, evaluation: &Evaluation) -> Result<serde_json::Value, Error> {
    let value = value_of(evaluation)?;
    if let Err(error) = EvalWriter::append(run, &value) {
        tracing::warn!("{error}: the result is not kept in the run folder");
    }
    Ok(value)
}

pub(super) fn value_of(evaluation: &Evaluation) -> Result<serde_json::Value, Error> {
    serde_json::to_value(evaluation)
        .map_err(|error| Error::failed(format!("the evaluation cannot be written as JSON: {error}")))
}
