//! Sizes, checked before anything is computed from them.

use crate::error::ModelError;

/// The most numbers of a tensor: device code indexes with 32 bits.
pub const MOST_NUMBERS: usize = u32::MAX as usize;

/// The product of some sides; `None` where it is more than a tensor can hold.
pub(crate) fn numbers(sides: &[usize]) -> Option<usize> {
    let product = sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    product.filter(|&product| product <= MOST_NUMBERS)
}

/// Checks sizes before anything is computed from them: what `describe` says has these sides.
///
/// # Errors
/// More numbers than a tensor can hold, at `energy.{key}`.
pub(crate) fn check_numbers(
    key: &'static str,
    sides: &[usize],
    describe: impl FnOnce() -> String,
) -> Result<(), ModelError> {
    match numbers(sides) {
        Some(_) => Ok(()),
        None => Err(ModelError::invalid(
            key,
            format!(
                "{} of {sides:?} numbers, more than {MOST_NUMBERS}, the most a tensor can hold",
                describe()
            ),
        )),
    }
}
