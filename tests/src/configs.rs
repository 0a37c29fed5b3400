//! Configs of the tests: those that are right, and those that must be refused.

use ember_train::config::Config;

pub use crate::far::far;
pub use crate::small::{small, with};

/// The config of a text.
///
/// # Panics
/// If it is not right.
#[track_caller]
pub fn config(text: &str) -> Config {
    Config::from_toml(text, "test").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Asserts that a text is refused with exit code 2, in words that hold every one of `parts`.
///
/// # Panics
/// If it is not.
#[track_caller]
pub fn refused(text: &str, parts: &[&str]) {
    let error = Config::from_toml(text, "bad.toml").expect_err("the config is bad");
    assert_eq!(error.exit_code(), 2, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
}
