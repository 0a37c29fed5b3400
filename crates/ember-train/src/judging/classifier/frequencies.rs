//! How often weighted walkers are of each class, with standard errors.
//!
//! Two estimators of `E[y]`, y being 1 for walkers of a class and 0 for others (or any other number a walker has):
//!
//! * **R independent repeats** of M walkers: `ŷ_r = Σ_i W_i y_i` in each, then mean and `s/√R` over the repeats.
//! * **Families**: walkers that descend from one starting walker are copies, or copies that have moved since, and not independent.
//!   `ŷ = Σ_i W_i y_i` over all, `e_g = Σ_{i in g} W_i (y_i − ŷ)` for each of G families,
//!   `s.e.² = G/(G − 1) Σ_g e_g²`: the cluster-robust variance of a ratio (Liang and Zeger 1986). It holds the spread of the weights
//!   and of past resamplings, and is too wide where families have mixed since. Families are taken as independent, which
//!   training walkers are not quite: they share θ. With few families it is uncertain itself.
//!
//! `TV = ½ Σ_k |f̂_k − f_k|` is linearised with the signs found: its standard error is that of `½ Σ_k sign_k f̂_k`. Noise alone
//! makes it positive, by about `.4 Σ_k s.e._k` where the masses are right.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use ember_model::params::download;
use ember_sampler::weights::normalised;
use serde::Serialize;

use super::Classifier;
use ember_sampler::statistics::Estimate;

/// Weighted class frequencies beside the training set's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFrequencies {
    /// The name of each class, `[K]`.
    pub classes: Vec<String>,
    /// Fraction of each class in the training set, `[K]`.
    pub data: Vec<f64>,
    /// Weighted fraction of the walkers that the classifier puts in each class, `[K]`.
    pub value: Vec<f64>,
    /// Its standard errors, `[K]`.
    pub standard_error: Vec<f64>,
    /// `½ Σ_k |value_k − data_k|`.
    pub total_variation: Estimate,
    /// `audit`, `smc` or `walkers`: whose they are.
    pub method: &'static str,
    /// Independent repeats behind the standard errors; absent where they are over families of ancestors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<usize>,
    /// Starting walkers still represented.
    pub distinct_ancestors: usize,
    /// Fraction of held-out images the classifier names right.
    pub classifier_accuracy: Estimate,
    /// Weighted mean of the largest class probability: well below the held-out images' where samples cannot be read.
    pub confidence: Estimate,
    /// The same on held-out images.
    pub confidence_held_out: Estimate,
    /// What the figures do not tell.
    pub caveat: String,
}

/// Weighted walkers in groups.
#[derive(Clone, Debug)]
pub struct Population {
    /// `W`, `[n]`: summing to 1, within each repeat where there are repeats.
    weights: Vec<f64>,
    groups: Groups,
}

/// Where the standard error comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// So many independent repeats of equal size, one after the other.
    Repeats(usize),
    /// The family of each walker: its starting ancestor, `[n]`.
    Families(Vec<i64>),
}

impl Population {
    /// Walkers with these log-weights, `[n]`.
    ///
    /// # Panics
    /// Repeats that do not divide n; a number of families other than n.
    pub fn new(log_weights: Tensor<1>, groups: Groups) -> Self {
        let [n] = log_weights.dims();
        let weights = match &groups {
            Groups::Repeats(repeats) => {
                assert_eq!(n % repeats, 0, "{n} walkers in {repeats} equal repeats");
                let size = n / repeats;
                let slice = |r: usize| download(normalised(log_weights.clone().narrow(0, r * size, size)));
                (0..*repeats).flat_map(slice).map(f64::from).collect()
            }
            Groups::Families(families) => {
                assert_eq!(n, families.len(), "one family a walker");
                download(normalised(log_weights)).into_iter().map(f64::from).collect()
            }
        };
        Self { weights, groups }
    }

    /// The weighted mean of `y(i)` over the walkers, with its standard error; NaN where there is one group only.
    pub fn mean(&self, y: impl Fn(usize) -> f64) -> Estimate {
        let weighted = |range: std::ops::Range<usize>| {
            let (sum, total) = range
                .fold((0.0, 0.0), |(sum, total), i| (sum + self.weights[i] * y(i), total + self.weights[i]));
            sum / total
        };
        let n = self.weights.len();
        match &self.groups {
            Groups::Repeats(repeats) => {
                let size = n / repeats;
                let means: Vec<f64> = (0..*repeats).map(|r| weighted(r * size..(r + 1) * size)).collect();
                Estimate::mean(&means)
            }
            Groups::Families(families) => {
                let mean = weighted(0..n);
                let mut residuals = BTreeMap::<i64, f64>::new();
                for (i, &family) in families.iter().enumerate() {
                    // e_g = Σ_{i in g} W_i (y_i − ŷ)
                    *residuals.entry(family).or_default() += self.weights[i] * (y(i) - mean);
                }
                let groups = residuals.len() as f64;
                if residuals.len() < 2 {
                    return Estimate { value: mean, standard_error: f64::NAN };
                }
                let square: f64 = residuals.values().map(|e| e * e).sum();
                // s.e.² = G/(G − 1) Σ_g e_g²
                Estimate { value: mean, standard_error: (groups / (groups - 1.0) * square).sqrt() }
            }
        }
    }
}

/// The class frequencies of `population`, whose positions are `position`, row-major `[n, dim]`. `data` are the training set's
/// fractions `[K]`.
pub fn class_frequencies(
    classifier: &Classifier,
    data: Vec<f64>,
    position: &[f32],
    population: &Population,
    distinct_ancestors: usize,
    method: &'static str,
) -> ClassFrequencies {
    let verdicts = classifier.judge(position);
    let held_out = classifier.held_out();
    let classes = held_out.classes.clone();
    let of_class = |k: usize| population.mean(|i| f64::from(u8::from(verdicts.class[i] as usize == k)));
    let found: Vec<Estimate> = (0..classes.len()).map(of_class).collect();
    let mut data = data;
    data.resize(classes.len(), 0.0);

    let gaps: Vec<f64> = found.iter().zip(&data).map(|(found, data)| found.value - data).collect();
    let signed = population.mean(|i| 0.5 * gaps[verdicts.class[i] as usize].signum());
    let total_variation = Estimate {
        value: 0.5 * gaps.iter().map(|gap| gap.abs()).sum::<f64>(),
        standard_error: signed.standard_error,
    };
    ClassFrequencies {
        classes,
        data,
        value: found.iter().map(|found| found.value).collect(),
        standard_error: found.iter().map(|found| found.standard_error).collect(),
        total_variation,
        method,
        repeats: match population.groups {
            Groups::Repeats(repeats) => Some(repeats),
            Groups::Families(_) => None,
        },
        distinct_ancestors,
        classifier_accuracy: held_out.accuracy,
        confidence: population.mean(|i| verdicts.confidence[i]),
        confidence_held_out: held_out.confidence,
        caveat: String::new(),
    }
}
