//! How the parts' energies make one: `Σ a_i U_i`, or `−log Σ_i e^{l_i − U_i}`.
//!
//! Everything else follows from `∂U/∂U_i`: the constants `a_i`, or the responsibilities `r = softmax(l − U)`.

use burn::tensor::{Tensor, activation};

/// The rule.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    /// `a`, of any sign.
    Linear(Vec<f64>),
    /// `l_i = log w_i − log_z_i`.
    Mixture(Vec<f64>),
}

/// `∂U/∂U_i` at some rows.
#[derive(Clone, Debug)]
pub(super) enum Slope {
    /// The same everywhere.
    Constant(f64),
    /// `[batch]`.
    Rows(Box<Tensor<1>>),
}

impl Slope {
    /// Times a number for each row, `[batch]`.
    pub fn of_rows(&self, rows: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Constant(a) => rows.mul_scalar(*a),
            Self::Rows(slopes) => rows * (**slopes).clone(),
        }
    }

    /// Times a gradient for each row, `[batch, dim]`.
    fn of_grads(&self, grads: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Constant(a) => grads.mul_scalar(*a),
            Self::Rows(slopes) => {
                let n = slopes.dims()[0];
                grads * (**slopes).clone().reshape([n, 1])
            }
        }
    }
}

/// `Σ_i ∂U/∂U_i ∇U_i`, `[batch, dim]`.
pub(super) fn combined(slopes: &[Slope], grads: Vec<Tensor<2>>) -> Tensor<2> {
    sum(slopes.iter().zip(grads).map(|(slope, grad)| slope.of_grads(grad)))
}

/// A sum in the parts' order.
fn sum<const D: usize>(terms: impl Iterator<Item = Tensor<D>>) -> Tensor<D> {
    terms.reduce(|sum, term| sum + term).expect("at least two parts")
}

impl Rule {
    /// `U` of the parts' energies, `[batch]` each, differentiable.
    pub fn energy(&self, parts: &[Tensor<1>]) -> Tensor<1> {
        match self {
            Self::Linear(a) => sum(a.iter().zip(parts).map(|(a, u)| u.clone().mul_scalar(*a))),
            Self::Mixture(l) => {
                let terms = log_terms(l, parts);
                let n = terms.dims()[0];
                let max = terms.clone().max_dim(1);
                let total = (terms - max.clone()).exp().sum_dim(1);
                (total.log() + max).neg().reshape([n])
            }
        }
    }

    /// `∂U/∂U_i` where it is the same everywhere.
    pub fn constants(&self) -> Option<Vec<Slope>> {
        match self {
            Self::Linear(a) => Some(a.iter().map(|&a| Slope::Constant(a)).collect()),
            Self::Mixture(_) => None,
        }
    }

    /// `∂U/∂U_i` where the parts' energies are these, `[batch]` each.
    pub fn slopes(&self, parts: &[Tensor<1>]) -> Vec<Slope> {
        match self {
            Self::Linear(a) => a.iter().map(|&a| Slope::Constant(a)).collect(),
            Self::Mixture(l) => {
                let n = parts[0].dims()[0];
                let responsibilities = activation::softmax(log_terms(l, parts), 1);
                let of_part = |i| responsibilities.clone().narrow(1, i, 1).reshape([n]);
                (0..parts.len()).map(|i| Slope::Rows(Box::new(of_part(i)))).collect()
            }
        }
    }

    /// `U`, `U′` and `U″` along a line from the parts': `U′ = Σ r U_i′`, `U″ = Σ r U_i″ − Σ r (U_i′ − U′)²` of a mixture.
    pub fn jet(&self, parts: Vec<[Tensor<1>; 3]>) -> [Tensor<1>; 3] {
        let values: Vec<Tensor<1>> = parts.iter().map(|[value, ..]| value.clone()).collect();
        let slopes = self.slopes(&values);
        let along = |order: usize| {
            let terms = slopes.iter().zip(&parts);
            sum(terms.map(|(slope, jet)| slope.of_rows(jet[order].clone())))
        };
        let (first, mut second) = (along(1), along(2));
        if let Self::Mixture(_) = self {
            let spread = slopes.iter().zip(&parts).map(|(slope, [_, part, _])| {
                let gap = part.clone() - first.clone();
                slope.of_rows(gap.clone() * gap)
            });
            second = second - sum(spread);
        }
        [self.energy(&values), first, second]
    }

    /// Whether some part is taken away.
    pub fn subtracts(&self) -> bool {
        matches!(self, Self::Linear(a) if a.iter().any(|a| *a < 0.0))
    }

    /// κ of `½ κ |x|²` far out, from the parts'.
    pub fn growth(&self, parts: &[f64]) -> f64 {
        match self {
            Self::Linear(a) => a.iter().zip(parts).map(|(a, part)| a * part).sum(),
            // The widest part decides.
            Self::Mixture(_) => parts.iter().copied().fold(f64::INFINITY, f64::min),
        }
    }

    /// Logarithms of the parts' masses in a mixture, `l_i + log Z_i` less `log Z`, and `log Z` itself.
    pub fn log_masses(&self, log_z: &[f64]) -> (Vec<f64>, f64) {
        let (Self::Linear(l) | Self::Mixture(l)) = self;
        let terms: Vec<f64> = l.iter().zip(log_z).map(|(l, log_z)| l + log_z).collect();
        let max = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = max + terms.iter().map(|term| (term - max).exp()).sum::<f64>().ln();
        (terms.iter().map(|term| term - total).collect(), total)
    }

    /// Means and variances of independent normals near the model, from the parts': the product of their powers, or the mixture's own
    /// moments, as if each part had the mass of its weight.
    pub fn moments(&self, dim: usize, parts: &[Option<[Vec<f64>; 2]>]) -> Option<[Vec<f64>; 2]> {
        match self {
            Self::Linear(a) => {
                let known: Vec<_> =
                    a.iter().zip(parts).filter_map(|(a, part)| Some((*a, part.as_ref()?))).collect();
                if known.is_empty() {
                    return None;
                }
                let product = |j: usize, terms: &dyn Fn(f64) -> bool| {
                    let terms = known.iter().filter(|(a, _)| terms(*a));
                    // p = Σ a/v, m = Σ a m/v over p
                    terms.fold((0.0, 0.0), |(p, pm), (a, [mean, variance])| {
                        (p + a / variance[j], pm + a * mean[j] / variance[j])
                    })
                };
                let coordinate = |j: usize| {
                    let all = product(j, &|_| true);
                    // What is taken away may be narrower than what it is taken from.
                    let (p, pm) = if all.0 > 0.0 { all } else { product(j, &|a| a > 0.0) };
                    (p > 0.0).then(|| (pm / p, p.recip()))
                };
                let found: Option<(Vec<f64>, Vec<f64>)> = (0..dim).map(coordinate).collect();
                found.map(|(mean, variance)| [mean, variance])
            }
            Self::Mixture(l) => {
                let (log_masses, _) = Rule::Mixture(l.clone()).log_masses(&vec![0.0; l.len()]);
                let parts: Option<Vec<&[Vec<f64>; 2]>> = parts.iter().map(Option::as_ref).collect();
                let parts = parts?;
                let moment = |of: &dyn Fn(&[Vec<f64>; 2]) -> f64| -> f64 {
                    log_masses.iter().zip(&parts).map(|(log_mass, part)| log_mass.exp() * of(part)).sum()
                };
                let mean: Vec<f64> = (0..dim).map(|j| moment(&|[mean, _]| mean[j])).collect();
                let square = |j: usize| moment(&|[m, v]| v[j] + (m[j] - mean[j]).powi(2));
                let variance = (0..dim).map(square).collect();
                Some([mean, variance])
            }
        }
    }
}

/// `l_i − U_i`, `[batch, parts]`.
fn log_terms(l: &[f64], parts: &[Tensor<1>]) -> Tensor<2> {
    let n = parts[0].dims()[0];
    let column = |(l, u): (&f64, &Tensor<1>)| u.clone().neg().add_scalar(*l).reshape([n, 1]);
    Tensor::cat(l.iter().zip(parts).map(column).collect(), 1)
}
