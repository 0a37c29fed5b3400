//! Drawing from weighted walkers.

use ember_sampler::Walkers;

/// `count` indices of `walkers` by weight: a systematic draw with the uniform number `u` in `[0, 1)`, ascending. Reads the weights.
pub fn by_weight(walkers: &Walkers, count: usize, u: f64) -> Vec<usize> {
    let weights: Vec<f64> =
        ember_model::params::download(walkers.weights()).into_iter().map(f64::from).collect();
    systematic(&weights, count, u)
}

/// Slot j takes the walker whose cumulative weight first exceeds `(j + u)/count`.
fn systematic(weights: &[f64], count: usize, u: f64) -> Vec<usize> {
    let total: f64 = weights.iter().sum();
    let mut picked = Vec::with_capacity(count);
    let mut cumulative = 0.0;
    for (i, weight) in weights.iter().enumerate() {
        cumulative += weight / total;
        while picked.len() < count && (picked.len() as f64 + u) / (count as f64) < cumulative {
            picked.push(i);
        }
    }
    // Rounding may leave the last slot open.
    let last = weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
    picked.resize(count, last);
    picked
}
