//! What the value of an option may be.

use ember_sampler::Scheme;

pub(super) fn even(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value > 0 && value.is_multiple_of(2) => Ok(value),
        _ => Err("expected an even number ≥ 2: a coupling moves one half of the coordinates".to_owned()),
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&value| value > 0).ok_or_else(|| "expected a whole number ≥ 1".to_owned())
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("expected a finite number > 0".to_owned()),
    }
}

pub(super) fn inside_unit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("expected a number between 0 and 1, such as 0.98".to_owned()),
    }
}

pub(super) fn scheme(text: &str) -> Result<Scheme, String> {
    let found = Scheme::ALL.iter().find(|scheme| scheme.name() == text);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
        format!("expected one of {}", names.join(", "))
    })
}
