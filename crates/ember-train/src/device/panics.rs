//! Panics as values: burn reports a device that failed by one, where the host next reads from it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `f` gives, or the text of the panic it ended in. The caller uses nothing that `f` was changing.
///
/// # Errors
/// The panic's text.
pub fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}

/// A message without its backtrace, on one line.
pub fn summary(message: &str) -> String {
    let message = message.split("Backtrace").next().unwrap_or_default();
    message.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches(['.', ':']).to_owned()
}
