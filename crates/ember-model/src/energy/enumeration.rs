//! Sums over all states of few bits, in f64.

use rayon::prelude::*;

/// The most bits whose `2^n` states are summed over.
pub const MOST_UNITS: usize = 20;
/// States are summed in this many parts, or fewer: always the same, whatever the number of threads.
const PARTS_LOG2: usize = 6;
/// Factors in (1, 2] between two logarithms: their product stays below 2^512.
const FACTORS: usize = 512;

/// `log Σ_s exp(c·s + Σ_i softplus(d_i + Σ_j s_j M_ji))` over the `2^n` states s of n bits: `rows` is M `[n, m]` row-major, `own` is c `[n]`,
/// `others` is d `[m]`. A state and the next differ in one bit (Gray 1953), so each costs `m` additions and exponentials.
///
/// # Panics
/// If n is beyond [`MOST_UNITS`] or the lengths do not fit.
pub fn log_sum(rows: &[f64], own: &[f64], others: &[f64]) -> f64 {
    let (n, m) = (own.len(), others.len());
    assert!(n <= MOST_UNITS && rows.len() == n * m, "{n} bits over {m} units: {} couplings", rows.len());
    let fixed = n.min(PARTS_LOG2);
    let parts: Vec<f64> =
        (0..1u32 << fixed).into_par_iter().map(|part| part_of_sum(rows, own, others, part, fixed)).collect();
    log_sum_exp(&parts)
}

/// The part of the sum whose first `fixed` bits are those of `part`.
fn part_of_sum(rows: &[f64], own: &[f64], others: &[f64], part: u32, fixed: usize) -> f64 {
    let (n, m) = (own.len(), others.len());
    let mut state = u64::from(part);
    let mut inputs = others.to_vec();
    let mut linear = 0.0;
    let flip = |j: usize, sign: f64, inputs: &mut [f64], linear: &mut f64| {
        *linear += sign * own[j];
        inputs.iter_mut().zip(&rows[j * m..(j + 1) * m]).for_each(|(z, w)| *z += sign * w);
    };
    (0..fixed).filter(|j| part >> j & 1 == 1).for_each(|j| flip(j, 1.0, &mut inputs, &mut linear));
    let (mut most, mut sum) = (f64::NEG_INFINITY, 0.0);
    for step in 1..=1u64 << (n - fixed) {
        let term = linear + sum_of_softplus(&inputs);
        if term > most {
            sum = sum * (most - term).exp() + 1.0;
            most = term;
        } else {
            sum += (term - most).exp();
        }
        // The bit that Gray's code turns; past the last state there is none.
        let j = fixed + step.trailing_zeros() as usize;
        if j < n {
            let sign = if state >> j & 1 == 1 { -1.0 } else { 1.0 };
            state ^= 1 << j;
            flip(j, sign, &mut inputs, &mut linear);
        }
    }
    most + sum.ln()
}

/// `Σ_i log(1 + e^{z_i})`: `max(z, 0)` and the logarithm of products of `1 + e^{−|z|}`.
fn sum_of_softplus(inputs: &[f64]) -> f64 {
    let of_block = |block: &[f64]| {
        let (mut linear, mut product) = (0.0, 1.0);
        for z in block {
            linear += z.max(0.0);
            product *= 1.0 + (-z.abs()).exp();
        }
        linear + f64::ln(product)
    };
    inputs.chunks(FACTORS).map(of_block).sum()
}

fn log_sum_exp(terms: &[f64]) -> f64 {
    let most = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + terms.iter().map(|term| (term - most).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// State by state, with few and with many bits.
    #[test]
    fn sums_are_those_over_all_states() {
        for (n, m) in [(1, 3), (4, 600), (9, 2)] {
            let value = |i: usize| ((i * 7919 % 1013) as f64 / 1013.0 - 0.5) * 4.0;
            let rows: Vec<f64> = (0..n * m).map(value).collect();
            let own: Vec<f64> = (0..n).map(|j| value(j + 17)).collect();
            let others: Vec<f64> = (0..m).map(|i| value(i + 31)).collect();
            let term = |state: usize| {
                let on: Vec<usize> = (0..n).filter(|j| state >> j & 1 == 1).collect();
                let input = |i: usize| others[i] + on.iter().map(|j| rows[j * m + i]).sum::<f64>();
                on.iter().map(|&j| own[j]).sum::<f64>()
                    + (0..m).map(|i| (1.0 + input(i).exp()).ln()).sum::<f64>()
            };
            let plain = log_sum_exp(&(0..1 << n).map(term).collect::<Vec<_>>());
            let found = log_sum(&rows, &own, &others);
            assert!((found - plain).abs() < 1e-9 * plain.abs().max(1.0), "{n}, {m}: {found}, {plain}");
        }
    }
}
