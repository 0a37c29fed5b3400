//! Pareto k̂ of importance weights (Vehtari, Simpson, Gelman, Yao and Gabry 2024, arXiv 1507.02646): the shape of a generalised Pareto law
//! fitted to the largest of them.
//!
//! Weights whose tail has the shape k have moments below order 1/k only: above ½ their variance is infinite, and an ess computed from them
//! says nothing; above .7 a mean of any practical number of draws is unreliable. The fit is Zhang and Stephens' (2009), an average over
//! a grid under their prior, with the weak prior of PSIS on k, worth ten draws at ½. Cost: a sort.
//! Not seen: a mode that the proposal never draws.

/// Above this shape an estimate is withheld.
pub const WITHHELD: f64 = 0.7;

/// Tails of fewer draws have no shape.
const LEAST: usize = 5;
/// Draws that the prior on k is worth, and its k.
const PRIOR: (f64, f64) = (10.0, 0.5);

/// k̂ of weights, from their logarithms, `[n]`; a logarithm of −∞ is a weight of 0. −∞ where the largest weights are all equal, +∞ where there
/// are too few to tell, NaN where one is not a number.
pub fn shape(log_weights: &[f64]) -> f64 {
    let n = log_weights.len();
    if log_weights.iter().any(|log_w| log_w.is_nan()) {
        return f64::NAN;
    }
    let mut sorted = log_weights.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The M largest, M = min(n/5, 3 √n)
    let tail = (n as f64 / 5.0).min(3.0 * (n as f64).sqrt()).ceil() as usize;
    if tail < LEAST || n <= tail || sorted[n - 1] == f64::NEG_INFINITY {
        return f64::INFINITY;
    }
    let (most, cut) = (sorted[n - 1], (sorted[n - 1 - tail] - sorted[n - 1]).exp());
    // Beyond the largest weight that is not in the tail
    let beyond: Vec<f64> = sorted[n - tail..].iter().map(|log_w| (log_w - most).exp() - cut).collect();
    let positive: Vec<f64> = beyond.into_iter().filter(|&x| x > 0.0).collect();
    match positive.len() {
        0 => f64::NEG_INFINITY,
        count if count < LEAST => f64::INFINITY,
        _ => fit(&positive),
    }
}

/// The limit of k̂ for estimates from `draws`: few draws need a lighter tail.
pub fn limit(draws: usize) -> f64 {
    (1.0 - (draws as f64).log10().recip()).min(WITHHELD)
}

/// Whether an estimate from `draws` weights of shape `k` is to be withheld: above the limit, or no number at all.
pub fn is_heavy(k: f64, draws: usize) -> bool {
    k.is_nan() || k > limit(draws)
}

/// k of a generalised Pareto law from values above 0, ascending (Zhang and Stephens 2009).
fn fit(x: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (quartile, largest) = (x[((n / 4.0 + 0.5) as usize).max(1) - 1], x[x.len() - 1]);
    let count = 30 + n.sqrt() as usize;
    let shape_at = |theta: f64| x.iter().map(|x| (-theta * x).ln_1p()).sum::<f64>() / n;
    // θ_j = 1/x_n + (1 − √(m/(j − ½)))/(3 x_{n/4}), by their profile likelihoods
    let thetas: Vec<f64> = (1..=count)
        .map(|j| largest.recip() + (1.0 - (count as f64 / (j as f64 - 0.5)).sqrt()) / (3.0 * quartile))
        .collect();
    let log_likelihood = |&theta: &f64| {
        let k = shape_at(theta);
        n * ((-theta / k).ln() - k - 1.0)
    };
    let likelihoods: Vec<f64> = thetas.iter().map(log_likelihood).collect();
    let most = likelihoods.iter().copied().filter(|l| !l.is_nan()).fold(f64::NEG_INFINITY, f64::max);
    let (sum, total) = thetas.iter().zip(&likelihoods).filter(|(_, l)| !l.is_nan()).fold(
        (0.0, 0.0),
        |(sum, total), (theta, l)| {
            let weight = (l - most).exp();
            (sum + weight * theta, total + weight)
        },
    );
    let (strength, centre) = PRIOR;
    (n * shape_at(sum / total) + strength * centre) / (n + strength)
}
