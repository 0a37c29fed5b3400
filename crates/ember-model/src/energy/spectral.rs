//! Spectral normalisation (Miyato et al. 2018): a layer uses `W/σ(W)`, σ the largest singular value of `W: [out, in·kh·kw]`.
//!
//! `σ² = tr(M W Wᵀ)` with `M = (W Wᵀ)^P / tr (W Wᵀ)^P`, `P = 4096`, which twelve squarings reach. M is a constant of the
//! gradient, as the vectors u, v of a power iteration are (it tends to `u uᵀ`, and σ is stationary in it), so that
//! `∂σ/∂W = M W/σ`. Unlike the usual running power iteration there is no state and no starting vector: σ is a pure function of
//! W, equal wherever a run is resumed.
//!
//! Error of σ: for two singular values at a ratio r, at most `½ max_q (1 − q) q^P/(1 + q^P) < 4·10⁻⁵` (`q = r²`), always from below;
//! for m values `ln(m)/2P`, that is 6·10⁻⁴ at m = 128, if they crowd just so. The gradient is that of a mean over values closer
//! than about `1/P`. Tests compare both with a singular value decomposition.
//!
//! [`SpectralNorm`] gives any network its normalised weights and takes the gradients back through them, so that a network's own
//! fast path runs unchanged. The last layer is left free: it is zero at the start and sets the scale of the energy.
//!
//! Cost: `12 · 2m³ + 4m²n` operations a call for `m ≤ n` the sides of W, beside `2mn` for every position of every sample that
//! uses W: negligible for images, a third of a layer of an MLP of width 128 at 4,096 walkers. A convolution's operator norm may
//! exceed that of its matrix W, by at most `√(kh·kw)`.

use burn::tensor::Tensor;

use super::chain::{Chain, ChainEnd, ChainState, is_on_gpu};
use super::levels::Levels;
use super::score::{ScoreGrads, ScoreLoss};
use super::{Architecture, WeightedGrads};
use crate::params::ParamSpec;
use crate::precision::Precision;
use crate::product::matmul;
use crate::random::Stream;

/// `log₂ P`.
const SQUARINGS: usize = 12;

/// σ² below this counts as zero: a zero matrix stays zero.
const SMALLEST: f64 = 1e-30;

/// A network that uses `W/σ(W)` for every weight but the last.
#[derive(Debug)]
pub(super) struct SpectralNorm {
    inner: Box<dyn Architecture>,
    params: Vec<ParamSpec>,
}

impl SpectralNorm {
    /// `inner` itself, or its normalised form.
    pub fn wrap(inner: Box<dyn Architecture>, spectral_norm: bool) -> Box<dyn Architecture> {
        if !spectral_norm {
            return inner;
        }
        let params = inner.params();
        Box::new(Self { inner, params })
    }

    /// The parameters that the network uses, differentiable in θ.
    fn used(&self, theta: &[Tensor<1>]) -> Vec<Tensor<1>> {
        // The last two are the last weight and the last bias.
        let last = theta.len().saturating_sub(2);
        let used = |(i, (spec, tensor)): (usize, (&ParamSpec, &Tensor<1>))| {
            if i >= last || spec.shape.len() < 2 {
                return tensor.clone();
            }
            let [out, fan_in] = [spec.shape[0], spec.shape[1..].iter().product()];
            normalised(tensor.clone().reshape([out, fan_in])).reshape([out * fan_in])
        };
        self.params.iter().zip(theta).enumerate().map(used).collect()
    }

    /// The gradients in θ of what `find` finds with its gradients in the parameters that the network uses.
    fn taken_back<T>(
        &self,
        theta: &[Tensor<1>],
        find: impl FnOnce(&[Tensor<1>]) -> Option<(Vec<Tensor<1>>, T)>,
    ) -> Option<(Vec<Tensor<1>>, T)> {
        let theta: Vec<_> = theta.iter().map(|tensor| tensor.clone().autodiff().require_grad()).collect();
        let used = self.used(&theta);
        let values: Vec<_> = used.iter().map(|tensor| tensor.clone().without_autodiff()).collect();
        let (grads, found) = find(&values)?;
        // ∂_θ ⟨V(θ), G⟩ where G, the gradient in V, is constant
        let products = used.into_iter().zip(grads).map(|(used, grad)| (used * grad).sum());
        let mut tape = products.reduce(|sum, product| sum + product).map(|sum| sum.backward());
        let grad = |tensor: &Tensor<1>| {
            let grad = tape.as_mut().and_then(|tape| tensor.grad_remove(tape));
            grad.unwrap_or_else(|| tensor.clone().without_autodiff().zeros_like())
        };
        Some((theta.iter().map(grad).collect(), found))
    }
}

impl Architecture for SpectralNorm {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn is_network(&self) -> bool {
        self.inner.is_network()
    }

    fn widest(&self) -> usize {
        self.inner.widest()
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.params.clone()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        self.inner.init(seed)
    }

    fn set_precision(&mut self, precision: Precision) {
        self.inner.set_precision(precision);
    }

    fn levels(&self) -> Option<&Levels> {
        self.inner.levels()
    }

    fn at_level(&self, level: usize) -> Option<Box<dyn Architecture>> {
        Some(Self::wrap(self.inner.at_level(level)?, true))
    }

    fn on_levels(&self) -> Option<Box<dyn Architecture>> {
        Some(Self::wrap(self.inner.on_levels()?, true))
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.inner.energy(&self.used(theta), x)
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.inner.energy_and_grad(&self.used(theta), x)
    }

    fn chain(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        // Normalising costs more than finding that a processor has no chain.
        is_on_gpu(&from.position).then(|| self.inner.chain(&self.used(theta), from, chain)).flatten()
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let taken = self.taken_back(theta, |used| {
            let found = self.inner.weighted_param_grads(used, terms);
            Some((found.grads, found.energies))
        });
        let (grads, energies) = taken.expect("gradients are always there");
        WeightedGrads { grads, energies }
    }

    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        if is_on_gpu(x) {
            return None;
        }
        let (grads, loss) = self.taken_back(theta, |used| {
            let found = self.inner.score_grads(used, x, loss)?;
            Some((found.grads, found.loss))
        })?;
        Some(ScoreGrads { grads, loss })
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        self.inner.jet(&self.used(theta), x, v)
    }

    fn jet_order(&self) -> usize {
        self.inner.jet_order()
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        // What is known is known of a network whose last layer is zero.
        self.inner.log_z(theta)
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        self.inner.draw(theta, count, stream)
    }

    fn confinement(&self) -> Option<f64> {
        self.inner.confinement()
    }

    fn starts_at_base(&self) -> bool {
        self.inner.starts_at_base()
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.inner.is_base_alone(theta)
    }
}

/// `W/σ(W)`, differentiable in W. `weight` and output: `[out, in]`.
fn normalised(weight: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = weight.dims();
    let constant = weight.clone().without_autodiff();
    // σ² = Σ (M W)∘W, or Σ (W M)∘W with M from WᵀW: whichever side is shorter
    let projected = if rows <= columns {
        matmul(top_projector(matmul(constant.clone(), constant.transpose())), weight.clone())
    } else {
        matmul(weight.clone(), top_projector(matmul(constant.clone().transpose(), constant)))
    };
    let square = (projected * weight.clone()).sum().reshape([1, 1]);
    weight / square.clamp_min(SMALLEST).sqrt()
}

/// `G^P / tr G^P` of a symmetric `G: [m, m]` without negative eigenvalues, `P = 2^SQUARINGS`.
fn top_projector(gram: Tensor<2>) -> Tensor<2> {
    // tr M² = Σ M∘M keeps the trace of every square at 1; any scale does at the start.
    let scale = (gram.clone() * gram.clone()).sum().sqrt().reshape([1, 1]);
    let start = gram / scale.clamp_min(SMALLEST);
    (0..SQUARINGS).fold(start, |m, _| {
        let trace = (m.clone() * m.clone()).sum().reshape([1, 1]);
        matmul(m.clone(), m) / trace.clamp_min(SMALLEST)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::download;
    use crate::random::{Purpose, Stream};
    use burn::tensor::{Device, TensorData};
    use faer::Mat;

    const SHAPES: [[usize; 2]; 6] = [[8, 72], [64, 27], [128, 128], [96, 864], [1, 5], [7, 1]];

    fn random(shape: [usize; 2], lane: u32) -> Vec<f32> {
        Stream::new(5, Purpose::Init).lane(lane).normals(shape[0], shape[1])
    }

    fn tensor(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn matrix(values: &[f32], [rows, columns]: [usize; 2]) -> Mat<f64> {
        Mat::from_fn(rows, columns, |i, j| f64::from(values[i * columns + j]))
    }

    fn largest(values: &[f32], shape: [usize; 2]) -> f64 {
        matrix(values, shape).singular_values().expect("it converges")[0]
    }

    /// The largest singular value of `W/σ` is 1, at every scale of W and for both orientations.
    #[test]
    fn the_largest_singular_value_is_one() {
        for (lane, shape) in SHAPES.into_iter().enumerate() {
            for scale in [1.0, 1e-4, 1e3] {
                let weight = random(shape, lane as u32).into_iter().map(|w| scale * w).collect();
                let sigma = largest(&download(normalised(tensor(weight, shape))), shape);
                println!("{shape:?} at scale {scale}: σ(W/σ) − 1 = {:.1e}", sigma - 1.0);
                assert!((sigma - 1.0).abs() < 2e-5, "{shape:?} at scale {scale}: {sigma}");
            }
        }
    }

    /// Singular values that crowd at the top are the worst case: the stated bound holds there, and σ is never too large.
    #[test]
    fn crowded_singular_values_keep_the_bound() {
        let side = 64;
        for gap in [0.0, 1e-4, 3e-4, 1e-3, 1e-2] {
            // diag(1, 1 − gap, 1 − gap, …)
            let diagonal = |i: usize, j: usize| match (i == j, i) {
                (false, _) => 0.0,
                (true, 0) => 1.0,
                (true, _) => 1.0 - gap,
            };
            let weight: Vec<f32> = (0..side * side).map(|k| diagonal(k / side, k % side)).collect();
            let sigma = largest(&download(normalised(tensor(weight, [side, side]))), [side, side]);
            let bound = (side as f64).ln() / (2.0 * 4096.0);
            println!("63 values at 1 − {gap:.0e}: σ(W/σ) − 1 = {:.1e}, bound {bound:.1e}", sigma - 1.0);
            assert!(sigma - 1.0 < bound && sigma - 1.0 > -2e-6, "gap {gap}: {sigma}");
        }
    }

    /// `∂⟨C, W/σ⟩/∂W = (C − ⟨C, W/σ⟩ u vᵀ)/σ`, u and v the singular vectors; a σ held constant would leave out the second term.
    #[test]
    fn the_gradient_is_that_of_the_decomposition() {
        for (lane, shape) in SHAPES.into_iter().enumerate() {
            let (weight, other) = (random(shape, lane as u32), random(shape, 100 + lane as u32));
            let w = tensor(weight.clone(), shape).autodiff().require_grad();
            let mut tape = (normalised(w.clone()) * tensor(other.clone(), shape)).sum().backward();
            let found = download(w.grad_remove(&mut tape).expect("a gradient"));

            let (w, c) = (matrix(&weight, shape), matrix(&other, shape));
            let svd = w.thin_svd().expect("it converges");
            let (u, sigma, v) = (svd.U().col(0), svd.S().column_vector()[0], svd.V().col(0));
            let inner: f64 = weight.iter().zip(&other).map(|(a, b)| f64::from(a * b)).sum::<f64>() / sigma;
            let scale = other.iter().fold(0f32, |a, b| a.max(b.abs()));
            let (mut worst, mut dropped) = (0f64, 0f64);
            for (k, &found) in found.iter().enumerate() {
                let (i, j) = (k / shape[1], k % shape[1]);
                let second = inner * u[i] * v[j];
                let expected = (c[(i, j)] - second) / sigma;
                worst = worst.max((f64::from(found) - expected).abs() * sigma / f64::from(scale));
                dropped = dropped.max(second.abs() / f64::from(scale));
            }
            println!("{shape:?}: gradient off by {worst:.1e}; without the second term by {dropped:.1e}");
            assert!(worst < 1e-4, "{shape:?}: {worst}");
            assert!(dropped > 1e-3, "{shape:?}: the test sees no constant σ");
        }
    }

    /// A zero matrix is left as it is.
    #[test]
    fn zero_stays_zero() {
        let zero = download(normalised(tensor(vec![0.0; 12], [3, 4])));
        assert_eq!(zero, vec![0.0; 12]);
    }
}
