//! What the tests of image sets share.

use ember_train::dataset::{Data, DatasetConfig, Rows};
use ember_train::error::Error;

/// A `[dataset]` table that passes its checks.
///
/// # Panics
/// If it does not.
pub fn table(text: &str) -> DatasetConfig {
    let dataset: DatasetConfig = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    dataset.as_dyn().validate().unwrap_or_else(|error| panic!("{error}"));
    dataset
}

/// The samples of a [`table`].
///
/// # Errors
/// What is wrong with the files.
pub fn load(text: &str) -> Result<Data, Error> {
    table(text).as_dyn().generate(0)
}

/// The error of a data set: exit code 2, and every one of `parts` in its message.
///
/// # Panics
/// If there is none, or another one.
#[track_caller]
pub fn fails(result: Result<Data, Error>, parts: &[&str]) {
    let error = result.expect_err("the data set is bad");
    assert_eq!(error.exit_code(), 2, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
}

/// The bytes of images.
///
/// # Panics
/// If the rows are none.
pub fn bytes(rows: &Rows) -> &[u8] {
    match rows {
        Rows::U8(bytes) => bytes,
        Rows::F32(_) => panic!("images are bytes"),
    }
}
