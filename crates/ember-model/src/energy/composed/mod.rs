//! Energies made of others (Du et al. 2023, arXiv 2302.11552): products of experts, mixtures, and one model without another.
//!
//! | kind | U | density |
//! |---|---|---|
//! | `sum` | `Σ a_i U_i` | `∏ ρ_i^{a_i}` |
//! | `mixture` | `−log Σ w_i e^{−U_i − log_z_i}` | `Σ w_i e^{−log_z_i} Z_i ρ_i` |
//! | `negation` | `a U_1 − b U_2` | `ρ_1^a / ρ_2^b` |
//!
//! each over its own Z. θ is the parts', one after another, as `parts.0.…`, `parts.1.…`: what trains an energy trains all of them. A part
//! may be of any kind, composed ones included, and stands at its own temperature: `U_i/T_i`. Gradients are those of the parts' own
//! passes, weighted by `∂U/∂U_i` (`rule.rs`). Cost: the sum of the parts', and for the parameter gradients of a mixture one more forward
//! pass. There is no chain in one launch on a GPU.
//!
//! An annealed path begins at `N(0, I/c)`, `c = Σ a_i c_i`, where the parts are networks with confinement; elsewhere at independent
//! normals that the parts' means and variances suggest, which may be far away where a part is strongly correlated.

pub mod mixture;
pub mod negation;
mod rule;
pub mod sum;

use std::sync::Arc;

use burn::tensor::Tensor;

use super::conditioned::Conditioned;
use super::network::{gaussian_draws, gaussian_log_z};
use super::{Architecture, EnergyTable, Evaluation, Pass, WeightedGrads};
use crate::error::ModelError;
use crate::flow::NonFinite;
use crate::params::ParamSpec;
use crate::precision::Precision;
use crate::random::Stream;
use crate::shape::{SampleShape, Support};
use rule::{Rule, Slope};

const PARTS: &str = "parts";

/// What a composed energy's table says of its parts.
#[derive(Clone, Debug)]
pub struct Composition<'a, C> {
    /// Their tables.
    pub tables: &'a [C],
    /// Where their parameters came from, where they were not trained by the run itself: as many as there are parts, or none.
    from: &'a [String],
    /// `a_i`, or the masses `w_i` of a mixture.
    pub coefficients: Vec<f64>,
}

impl<C> Composition<'_, C> {
    /// Where the parameters of part `i` came from.
    pub fn from(&self, i: usize) -> Option<&str> {
        self.from.get(i).map(String::as_str).filter(|path| !path.is_empty())
    }
}

/// The parts of a table.
struct Tables<'a, C> {
    parts: &'a [C],
    from: &'a [String],
    temperatures: &'a [f64],
}

impl<C: EnergyTable> Tables<'_, C> {
    /// Builds the energy of `kind` whose parts go together by `rule`.
    ///
    /// # Errors
    /// Less than two parts, lists of another length, a temperature that is none, or as the parts' own tables.
    fn build(
        &self,
        kind: &'static str,
        rule: Rule,
        shape: SampleShape,
    ) -> Result<Box<dyn Architecture>, ModelError> {
        if self.parts.len() < 2 {
            let message = format!("{} found, expected at least two energies to compose", self.parts.len());
            return Err(ModelError::invalid(PARTS, message));
        }
        check_length("parts_from", self.from.len(), self.parts.len(), true)?;
        check_length("temperatures", self.temperatures.len(), self.parts.len(), true)?;
        if let Some(bad) = self.temperatures.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
            return Err(ModelError::invalid("temperatures", format!("{bad} is no finite number > 0")));
        }
        let (mut parts, mut ends, mut end): (Vec<Box<dyn Architecture>>, _, _) = (Vec::new(), Vec::new(), 0);
        for (i, table) in self.parts.iter().enumerate() {
            let inner = table.build(shape).map_err(|error| inside(i, error))?;
            let temperature = self.temperatures.get(i).copied().unwrap_or(1.0);
            end += inner.params().len();
            ends.push(end);
            parts.push(match temperature {
                1.0 => inner,
                _ => Box::new(Conditioned { inner, temperature, support: Support::Unbounded }),
            });
        }
        Ok(Box::new(ComposedEnergy { kind, parts, ends, rule }))
    }
}

/// Checks that a list has an entry for each part.
fn check_length(key: &'static str, found: usize, parts: usize, may_lack: bool) -> Result<(), ModelError> {
    if found == parts || (may_lack && found == 0) {
        return Ok(());
    }
    Err(ModelError::invalid(key, format!("{found} found, expected one for each of the {parts} parts")))
}

/// The weights given, or `value` for each part.
///
/// # Errors
/// Another number of weights than of parts; one that is no finite number > 0.
fn weights(given: Option<&[f64]>, parts: usize, value: f64) -> Result<Vec<f64>, ModelError> {
    let Some(given) = given else { return Ok(vec![value; parts]) };
    check_length("weights", given.len(), parts, false)?;
    match given.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
        Some(bad) => Err(ModelError::invalid("weights", format!("{bad} found, expected finite numbers > 0"))),
        None => Ok(given.to_vec()),
    }
}

/// An error of a part's table.
fn inside(i: usize, error: ModelError) -> ModelError {
    match error {
        ModelError::Invalid { key, message } => {
            ModelError::invalid(PARTS, format!("part {i}: {key}: {message}"))
        }
        ModelError::Shape { .. } => ModelError::invalid(PARTS, format!("part {i}: {error}")),
        other => other,
    }
}

/// Parts and the rule that makes one energy of theirs.
#[derive(Debug)]
struct ComposedEnergy {
    kind: &'static str,
    parts: Vec<Box<dyn Architecture>>,
    /// Where in θ each part's parameters end.
    ends: Vec<usize>,
    rule: Rule,
}

impl ComposedEnergy {
    /// Each part with its own θ.
    fn each<'a, T>(&'a self, theta: &'a [T]) -> impl Iterator<Item = (&'a dyn Architecture, &'a [T])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let own = starts.zip(&self.ends).map(|(start, &end)| &theta[start..end]);
        self.parts.iter().map(AsRef::as_ref).zip(own)
    }

    /// `U_i(x)`, `[batch]` each.
    fn energies(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Vec<Tensor<1>> {
        self.each(theta).map(|(part, theta)| part.energy(theta, x.clone())).collect()
    }

    /// c where U is networks and `½ c |x|²`, of any sign; `None` of a mixture, and where some part is no such.
    fn quadratic(&self) -> Option<f64> {
        let Rule::Linear(coefficients) = &self.rule else { return None };
        let of_part = |part: &dyn Architecture| part.confinement().or(part.growth().filter(|c| *c == 0.0));
        let parts = coefficients.iter().zip(&self.parts);
        parts.map(|(a, part)| Some(a * of_part(part.as_ref())?)).sum()
    }

    /// Whether U is its confinement, or nothing, where all networks are zero.
    fn has_base(&self) -> bool {
        self.quadratic().is_some_and(|c| c >= 0.0)
    }
}

/// The parts' passes and `∂U/∂U_i` where they were made.
#[derive(Debug)]
struct ComposedPass {
    parts: Vec<(Arc<dyn Pass>, Slope)>,
}

impl Pass for ComposedPass {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        let parts = self.parts.iter();
        parts.flat_map(|(pass, slope)| pass.weighted_param_grads(&slope.of_rows(weights.clone()))).collect()
    }
}

impl Architecture for ComposedEnergy {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn dim(&self) -> usize {
        self.parts[0].dim()
    }

    fn widest(&self) -> usize {
        self.parts.iter().map(|part| part.widest()).max().unwrap_or_default()
    }

    fn set_precision(&mut self, precision: Precision) {
        self.parts.iter_mut().for_each(|part| part.set_precision(precision));
    }

    fn params(&self) -> Vec<ParamSpec> {
        let named =
            |i: usize, spec: ParamSpec| ParamSpec { name: format!("{PARTS}.{i}.{}", spec.name), ..spec };
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(i, part)| part.params().into_iter().map(move |spec| named(i, spec))).collect()
    }

    /// Each part as of itself, from seeds of their own: two networks alike do not start alike.
    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(i, part)| part.init(seed.wrapping_add((i as u64) << 32))).collect()
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.rule.energy(&self.energies(theta, &x))
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let parts = self.each(theta).map(|(part, theta)| part.energy_and_grad(theta, x.clone()));
        let (energies, grads): (Vec<_>, Vec<_>) = parts.unzip();
        (self.rule.energy(&energies), rule::combined(&self.rule.slopes(&energies), grads))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (mut energies, mut grads, mut passes) = (Vec::new(), Vec::new(), Vec::new());
        for (part, theta) in self.each(theta) {
            let (u, grad, pass) = part.energy_and_grad_kept(theta, x.clone());
            energies.push(u);
            grads.push(grad);
            passes.push(pass);
        }
        let slopes = self.rule.slopes(&energies);
        let grad = rule::combined(&slopes, grads);
        let passes: Option<Vec<_>> = passes.into_iter().collect();
        let pass = passes.map(|passes| {
            Arc::new(ComposedPass { parts: passes.into_iter().zip(slopes).collect() }) as Arc<dyn Pass>
        });
        (self.rule.energy(&energies), grad, pass)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        // Σ w ∂U = Σ_i Σ (w ∂U/∂U_i) ∂U_i
        let slopes: Vec<Vec<Slope>> = terms
            .iter()
            .map(|(x, _)| self.rule.constants().unwrap_or_else(|| self.rule.slopes(&self.energies(theta, x))))
            .collect();
        let (mut grads, mut energies) = (Vec::new(), vec![Vec::new(); terms.len()]);
        for (i, (part, theta)) in self.each(theta).enumerate() {
            let of_term = |((x, weights), slopes): (&(Tensor<2>, Tensor<1>), &Vec<Slope>)| {
                (x.clone(), slopes[i].of_rows(weights.clone()))
            };
            let weighted: Vec<_> = terms.iter().zip(&slopes).map(of_term).collect();
            let found = part.weighted_param_grads(theta, &weighted);
            grads.extend(found.grads);
            energies.iter_mut().zip(found.energies).for_each(|(of_term, u)| of_term.push(u));
        }
        WeightedGrads { grads, energies: energies.iter().map(|parts| self.rule.energy(parts)).collect() }
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let jets = self.each(theta).map(|(part, theta)| part.jet(theta, x.clone(), v.clone()));
        Some(self.rule.jet(jets.collect::<Option<Vec<_>>>()?))
    }

    fn jet_order(&self) -> usize {
        self.parts.iter().map(|part| part.jet_order()).min().unwrap_or_default()
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        match &self.rule {
            Rule::Linear(_) => {
                let c = self.confinement().filter(|_| self.is_base_alone(theta))?;
                Some(gaussian_log_z(self.dim(), c))
            }
            Rule::Mixture(_) => {
                let parts: Option<Vec<f64>> =
                    self.each(theta).map(|(part, theta)| part.log_z(theta)).collect();
                Some(self.rule.log_masses(&parts?).1)
            }
        }
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        let dim = self.dim();
        if let Rule::Linear(_) = &self.rule {
            let c = self.confinement().filter(|_| self.is_base_alone(theta))?;
            return Some(gaussian_draws(dim, c, count, stream));
        }
        let log_z: Option<Vec<f64>> = self.each(theta).map(|(part, theta)| part.log_z(theta)).collect();
        let masses: Vec<f64> =
            self.rule.log_masses(&log_z?).0.into_iter().map(|log_mass| log_mass.exp()).collect();
        let draws: Option<Vec<Vec<f32>>> =
            self.each(theta).map(|(part, theta)| part.draw(theta, count, stream)).collect();
        let draws = draws?;
        // A row takes the part's draw of the same number. The block of the choice is used by no coordinate, and by no mixture inside
        // this one, which has fewer parameters.
        let block = u32::MAX - self.ends.last().map_or(0, |&end| end as u32);
        let mut rows = Vec::with_capacity(count * dim);
        for walker in 0..count {
            let [high, low, ..] = stream.bits(block, walker as u32);
            let u = ((u64::from(high) << 32 | u64::from(low)) >> 11) as f64 * (-53f64).exp2();
            let mut cumulative = 0.0;
            let chosen = masses.iter().position(|mass| {
                cumulative += mass;
                u < cumulative
            });
            let from = &draws[chosen.unwrap_or(masses.len() - 1)];
            rows.extend_from_slice(&from[walker * dim..][..dim]);
        }
        Some(rows)
    }

    fn confinement(&self) -> Option<f64> {
        self.quadratic().filter(|c| *c > 0.0)
    }

    fn growth(&self) -> Option<f64> {
        let parts: Option<Vec<f64>> = self.parts.iter().map(|part| part.growth()).collect();
        Some(self.rule.growth(&parts?))
    }

    fn starts_at_base(&self) -> bool {
        self.has_base() && self.parts.iter().all(|part| part.starts_at_base())
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.has_base() && self.each(theta).all(|(part, theta)| part.is_base_alone(theta))
    }

    fn has_exact_start(&self) -> bool {
        match self.rule {
            Rule::Linear(_) => self.starts_at_base() && self.confinement().is_some(),
            Rule::Mixture(_) => self.parts.iter().all(|part| part.has_exact_start()),
        }
    }

    fn moments(&self, theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        // A network that nothing confines has no moments, and none in a sum.
        let of_part = |(part, theta): (&dyn Architecture, &[Vec<f32>])| part.moments(theta);
        let parts: Vec<Option<[Vec<f64>; 2]>> = self.each(theta).map(of_part).collect();
        self.rule.moments(self.dim(), &parts)
    }

    fn check_support(&self, support: Support) -> Result<(), ModelError> {
        let mut parts = self.parts.iter().enumerate();
        parts.try_for_each(|(i, part)| part.check_support(support).map_err(|error| inside(i, error)))?;
        if support != Support::Unbounded || !self.rule.subtracts() {
            return Ok(());
        }
        let growths: Vec<Option<f64>> = self.parts.iter().map(|part| part.growth()).collect();
        negation::check(&self.rule, &growths, &self.parts.iter().map(|part| part.kind()).collect::<Vec<_>>())
    }

    fn first_non_finite_layer(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<NonFinite> {
        self.each(theta).find_map(|(part, theta)| part.first_non_finite_layer(theta, x.clone()))
    }
}
