//! Statistics of a quantity along chains of equal length, `[chains][steps]`: R-hat and the integrated autocorrelation time.
//!
//! R-hat is the rank-normalised split R-hat of Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021): the larger of that of the
//! ranks and of the ranks of `|x − median|`, so that heavy tails and chains of different widths are seen. The autocorrelation
//! time `τ = 1 + 2 Σ_{t≥1} ρ_t` is that of Geyer's initial monotone sequence (1992): pairs `Γ_k = ρ_{2k} + ρ_{2k+1}` are positive and
//! fall with k in a reversible chain, so they are summed while they are positive, each at most as large as the one before. That
//! holds for anticorrelated chains too (`τ < 1`), whose `1 + 2ρ_1` alone is negative. ρ_t is about the
//! mean of *all* chains: chains that stay in different modes then have a time as long as they are, not a short one each.
//! Cost: a sort, and `chains · steps · W` products, with W the last lag of the sum.
//! Where `τ` is far below 1 the running minimum is biased towards 0, by about the standard deviation of one estimate.

/// An integrated autocorrelation time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutocorrelationTime {
    /// τ in steps, > 0: 1 for independent values, less for anticorrelated ones. NaN for a constant.
    pub steps: f64,
    /// Whether the sum ended within half of a chain: else `steps` is too small.
    pub window_reached: bool,
    /// Whether so many values can tell so short a time. Not below `1/log₁₀ n` of all n values, the shortest that Stan reports; where
    /// the sum is not even positive, `steps` is that bound.
    pub resolved: bool,
}

/// τ of chains about their common mean.
pub fn autocorrelation_time(chains: &[Vec<f32>]) -> AutocorrelationTime {
    let steps = chains.first().map_or(0, Vec::len);
    let count = (chains.len() * steps) as f64;
    let mean = chains.iter().flatten().map(|&x| f64::from(x)).sum::<f64>() / count;
    let centred: Vec<Vec<f64>> =
        chains.iter().map(|chain| chain.iter().map(|&x| f64::from(x) - mean).collect()).collect();
    // C_t = E[(x_s − μ)(x_{s+t} − μ)]
    let covariance = |lag: usize| {
        let products = centred
            .iter()
            .map(|chain| -> f64 { chain[..steps - lag].iter().zip(&chain[lag..]).map(|(a, b)| a * b).sum() });
        products.sum::<f64>() / (centred.len() * (steps - lag)) as f64
    };
    let variance = covariance(0);
    // τ = −1 + 2 Σ_k min(Γ_0, …, Γ_k), up to the first Γ_k ≤ 0
    let (mut tau, mut least, mut window_reached) = (-1.0, f64::INFINITY, false);
    for lag in (0..steps / 2).step_by(2) {
        let pair = (covariance(lag) + covariance(lag + 1)) / variance;
        window_reached = pair <= 0.0;
        if window_reached {
            break;
        }
        least = pair.min(least);
        tau += 2.0 * least;
    }
    let shortest = count.log10().recip();
    let resolved = tau.is_nan() || tau >= shortest;
    AutocorrelationTime { steps: if tau <= 0.0 { shortest } else { tau }, window_reached, resolved }
}

/// Rank-normalised split R-hat. Infinite where no chain moves and they differ; NaN where nothing differs at all.
pub fn rank_normalised_r_hat(chains: &[Vec<f32>]) -> f64 {
    let mut sorted: Vec<f32> = chains.iter().flatten().copied().collect();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    let folded: Vec<Vec<f32>> =
        chains.iter().map(|chain| chain.iter().map(|x| (x - median).abs()).collect()).collect();
    split_r_hat(&normal_scores(chains)).max(split_r_hat(&normal_scores(&folded)))
}

/// Classic split R-hat: each chain counts as two halves.
pub fn split_r_hat(chains: &[Vec<f64>]) -> f64 {
    let half = chains.first().map_or(0, Vec::len) / 2;
    let halves = chains.iter().flat_map(|chain| [&chain[..half], &chain[chain.len() - half..]]);
    let moments: Vec<(f64, f64)> = halves.map(mean_and_variance).collect();
    let (means, variances): (Vec<f64>, Vec<f64>) = moments.into_iter().unzip();
    // W, the mean variance within; B/n, the variance of the means
    let within = variances.iter().sum::<f64>() / variances.len() as f64;
    let between = mean_and_variance(&means).1;
    let n = half as f64;
    (((n - 1.0) / n * within + between) / within).sqrt()
}

/// `Φ⁻¹((r − ⅜)/(S + ¼))` of every value's rank r among all S; ties share their mean rank (Blom 1958).
fn normal_scores(chains: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let mut order: Vec<(f32, usize, usize)> = Vec::new();
    for (c, chain) in chains.iter().enumerate() {
        order.extend(chain.iter().enumerate().map(|(s, &x)| (x, c, s)));
    }
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut scores: Vec<Vec<f64>> = chains.iter().map(|chain| vec![0.0; chain.len()]).collect();
    let total = order.len() as f64;
    let mut first = 0;
    while first < order.len() {
        let ties = order[first..].iter().take_while(|entry| entry.0 == order[first].0).count().max(1);
        let rank = first as f64 + 0.5 * (ties as f64 + 1.0);
        let score = normal_quantile((rank - 0.375) / (total + 0.25));
        for &(_, c, s) in &order[first..first + ties] {
            scores[c][s] = score;
        }
        first += ties;
    }
    scores
}

/// About the first value, so that the variance of a constant is 0 and not what rounding leaves.
fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let (n, origin) = (values.len() as f64, values[0]);
    let mean = values.iter().map(|x| x - origin).sum::<f64>() / n;
    let square = values.iter().map(|x| (x - origin - mean).powi(2)).sum::<f64>();
    (origin + mean, square / (n - 1.0))
}

/// Φ⁻¹ by Wichura's algorithm AS 241 (1988), PPND7: 7 digits, for p between 10⁻¹⁰ and 1 − 10⁻¹⁰.
pub fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        let top = ((59.109_374_720 * r + 159.291_132_02) * r + 50.434_271_938) * r + 3.387_132_717_9;
        let bottom = ((67.187_563_600 * r + 78.757_757_664) * r + 17.895_169_469) * r + 1.0;
        return q * top / bottom;
    }
    let r = (-p.min(1.0 - p).ln()).sqrt() - 1.6;
    let top = ((0.170_238_211_03 * r + 1.306_728_481_6) * r + 2.756_815_390_0) * r + 1.423_437_277_7;
    let bottom = (0.120_211_329_75 * r + 0.737_001_642_50) * r + 1.0;
    (top / bottom).copysign(q)
}
