//! An MLP and a Gaussian mixture in f64, row by row, as their formulas stand: what f32 forms are judged by.

/// Energies, gradients and weighted parameter gradients of rows `x: [n, dim]`.
pub(super) struct Exact {
    /// `U(x_b)`, `[n]`.
    pub(super) energy: Vec<f64>,
    /// `∇U(x_b)`, `[n, dim]`.
    pub(super) grad: Vec<f64>,
    /// `Σ_b w_b ∂_θU(x_b)`, one flat tensor for each of θ.
    pub(super) param_grads: Vec<Vec<f64>>,
    /// The same with `|w_b|`: the size of what is added, for weights of both signs may cancel down to rounding.
    pub(super) sizes: Vec<Vec<f64>>,
}

impl Exact {
    fn new(theta: &[Vec<f32>]) -> Self {
        let zeros: Vec<Vec<f64>> = theta.iter().map(|tensor| vec![0.0; tensor.len()]).collect();
        Self { energy: Vec::new(), grad: Vec::new(), param_grads: zeros.clone(), sizes: zeros }
    }

    /// Adds `weight · slope` to the gradient of `θ[tensor][at]`.
    fn add(&mut self, tensor: usize, at: usize, weight: f64, slope: f64) {
        self.param_grads[tensor][at] += weight * slope;
        self.sizes[tensor][at] += weight.abs() * slope;
    }
}

/// `U(x) = w_L·silu(… silu(W_0 x + b_0) …) + b_L + ½ c |x|²`; θ = (`W_0` `[out, in]`, `b_0`, `W_1`, …).
pub(super) fn mlp(theta: &[Vec<f32>], dim: usize, confinement: f64, x: &[f32], weights: &[f32]) -> Exact {
    let mut exact = Exact::new(theta);
    let layers = theta.len() / 2;
    for (x, &weight) in x.chunks_exact(dim).zip(weights) {
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        // Inputs of every layer, and z = W h + b.
        let (mut inputs, mut sums) = (vec![x.clone()], Vec::new());
        for layer in 0..layers {
            let z = affine(&theta[2 * layer], &theta[2 * layer + 1], &inputs[layer]);
            inputs.push(z.iter().map(|&z| z * sigmoid(z)).collect());
            sums.push(z);
        }
        let square: f64 = x.iter().map(|x| x * x).sum();
        exact.energy.push(sums[layers - 1][0] + 0.5 * confinement * square);
        // s_L = 1; s_l = (W_{l+1}ᵀ s_{l+1}) ∘ silu′(z_l); ∂W_l = s_l h_lᵀ
        let mut signal = vec![1.0];
        for layer in (0..layers).rev() {
            let (matrix, input) = (&theta[2 * layer], inputs[layer].clone());
            let mut back = vec![0.0; input.len()];
            for (o, &s) in signal.iter().enumerate() {
                exact.add(2 * layer + 1, o, f64::from(weight), s);
                for (i, &h) in input.iter().enumerate() {
                    exact.add(2 * layer, o * input.len() + i, f64::from(weight), s * h);
                    back[i] += s * f64::from(matrix[o * input.len() + i]);
                }
            }
            if layer > 0 {
                back.iter_mut().zip(&sums[layer - 1]).for_each(|(s, &z)| *s *= silu_slope(z));
            }
            signal = back;
        }
        exact.grad.extend(signal.iter().zip(&x).map(|(s, x)| s + confinement * x));
    }
    exact
}

/// `U(x) = −log Σ_k e^{l_k − ½|x − m_k|²}`; θ = (means `[K, dim]`, logits `[K]`, the first of them frozen).
pub(super) fn mixture(theta: &[Vec<f32>], dim: usize, x: &[f32], weights: &[f32]) -> Exact {
    let mut exact = Exact::new(theta);
    let means: Vec<Vec<f64>> =
        theta[0].chunks_exact(dim).map(|mean| mean.iter().map(|&m| f64::from(m)).collect()).collect();
    for (x, &weight) in x.chunks_exact(dim).zip(weights) {
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let terms: Vec<f64> = means
            .iter()
            .zip(&theta[1])
            .map(|(mean, &logit)| {
                let square: f64 = x.iter().zip(mean).map(|(x, m)| (x - m) * (x - m)).sum();
                f64::from(logit) - 0.5 * square
            })
            .collect();
        let max = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = terms.iter().map(|term| (term - max).exp()).sum();
        exact.energy.push(-(max + total.ln()));
        let shares: Vec<f64> = terms.iter().map(|term| (term - max).exp() / total).collect();
        for j in 0..dim {
            // ∇U = x − Σ_k r_k m_k
            let mean: f64 = shares.iter().zip(&means).map(|(share, mean)| share * mean[j]).sum();
            exact.grad.push(x[j] - mean);
        }
        for (k, (share, mean)) in shares.iter().zip(&means).enumerate() {
            // ∂U/∂m_k = −r_k (x − m_k), ∂U/∂l_k = −r_k
            for j in 0..dim {
                exact.add(0, k * dim + j, f64::from(weight), -share * (x[j] - mean[j]));
            }
            if k > 0 {
                exact.add(1, k, f64::from(weight), -share);
            }
        }
    }
    exact
}

/// `W h + b`.
fn affine(matrix: &[f32], bias: &[f32], input: &[f64]) -> Vec<f64> {
    let rows = matrix.chunks_exact(input.len()).zip(bias);
    rows.map(|(row, &bias)| {
        f64::from(bias) + row.iter().zip(input).map(|(&w, h)| f64::from(w) * h).sum::<f64>()
    })
    .collect()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// `σ (1 + z (1 − σ))`.
fn silu_slope(z: f64) -> f64 {
    let sigma = sigmoid(z);
    sigma * (1.0 + z * (1.0 - sigma))
}
