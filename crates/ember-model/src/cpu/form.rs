//! An energy on the CPU as explicit passes over blocks of rows instead of a tape.
//!
//! Blocks have a fixed size and one thread works on one; gradients of θ are added along a fixed binary tree over the blocks, so
//! results do not depend on the number of threads. An energy with a [`Passes::param_grads`] of its own can go back in two phases:
//! [`CpuForm::energy_and_grad_kept`] leaves activations and signals in the blocks' buffers, and the parameter gradients of
//! weights that are only then known take one product a layer more instead of three.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{Pool, host, hosts, slices, tensor};
use crate::energy::elementwise::{settled, square_norm};
use crate::energy::{Evaluation, Pass, WeightedGrads};
use crate::params::upload;

/// Bytes of activations and signals that may be kept between the two phases: beyond them the second phase starts anew.
const KEPT_BYTES: usize = 1 << 28;

/// The passes of one energy over one block of rows. `x: [rows, dim]`, row-major, `rows` at most [`Passes::block`].
pub(crate) trait Passes: Debug + Send + Sync + 'static {
    /// θ as the passes want it.
    type Theta<'a>: Send + Sync;
    /// The buffers of one block.
    type Work: Debug + Send + Sync + 'static;
    /// Gradients of θ.
    type Grads: Send;

    /// Coordinates of a row.
    fn dim(&self) -> usize;

    /// Rows of a block.
    fn block(&self) -> usize;

    /// Blocks whose gradients of θ are added one after the other.
    fn leaf(&self) -> usize {
        1
    }

    /// `c` of an added `½ c |x|²`.
    fn confinement(&self) -> f32 {
        0.0
    }

    /// θ from one slice a parameter.
    fn theta<'a>(&self, theta: &[&'a [f32]]) -> Self::Theta<'a>;

    /// Fresh buffers.
    fn work(&self) -> Self::Work;

    /// Bytes of the buffers, where they can be kept for [`Passes::param_grads`]; `None` where they cannot.
    fn kept_bytes(&self) -> Option<usize> {
        None
    }

    /// `U` without the confinement. With `keep`, [`Passes::backward`] may follow.
    fn evaluate(
        &self,
        theta: &Self::Theta<'_>,
        x: &[f32],
        energy: &mut [f32],
        work: &mut Self::Work,
        keep: bool,
    );

    /// Goes back from `∂/∂U = seed: [rows]`: parameter gradients are added to `params`, the gradient of x is written to `input`,
    /// where they are given.
    fn backward(
        &self,
        theta: &Self::Theta<'_>,
        x: &[f32],
        seed: &[f32],
        work: &mut Self::Work,
        params: Option<&mut Self::Grads>,
        input: Option<&mut [f32]>,
    );

    /// Adds the parameter gradients of `seed: [rows]` after a [`Passes::backward`] from ones. Here θ is one slice a parameter.
    fn param_grads(
        &self,
        _theta: &[&[f32]],
        _x: &[f32],
        _seed: &[f32],
        _work: &mut Self::Work,
        _params: &mut Self::Grads,
    ) {
        unreachable!("only where kept_bytes says that buffers can be kept");
    }

    /// Zeros.
    fn zeros(&self) -> Self::Grads;

    /// `to += from`.
    fn add(&self, to: &mut Self::Grads, from: &Self::Grads);

    /// One flat vector a parameter.
    fn flattened(&self, grads: Self::Grads) -> Vec<Vec<f32>>;
}

/// The CPU form of an energy. Clones share their buffers.
#[derive(Debug)]
pub(crate) struct CpuForm<P: Passes>(Arc<Shared<P>>);

#[derive(Debug)]
struct Shared<P: Passes> {
    passes: P,
    pool: Pool<P::Work>,
}

impl<P: Passes> Clone for CpuForm<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// One block of a term: positions, weights, and where its energies go.
struct Block<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    energy: &'a mut [f32],
}

impl<P: Passes> CpuForm<P> {
    pub fn new(passes: P) -> Self {
        Self(Arc::new(Shared { passes, pool: Pool::default() }))
    }

    pub fn passes(&self) -> &P {
        &self.0.passes
    }

    /// Runs `f` with the buffers of one block.
    pub fn with_work<T>(&self, f: impl FnOnce(&mut P::Work) -> T) -> T {
        self.0.pool.with(|| self.passes().work(), f)
    }

    /// The numbers of positions `[n, dim]`, or `None` where they are not 32-bit floats.
    pub fn rows<'a>(&self, x: &'a FloatTensor<Flex>, n: usize) -> Option<&'a [f32]> {
        let (rows, dim): (&[f32], _) = (x.as_slice()?, self.passes().dim());
        assert_eq!(rows.len(), n * dim, "positions are [{n}, {dim}]");
        Some(rows)
    }

    /// `U [n]`, or `None` where a tensor is not a plain one on the CPU.
    pub fn energy(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Tensor<1>> {
        let (theta, position, n) = (hosts(theta)?, host(x)?, x.dims()[0]);
        let (theta, rows) = (self.passes().theta(&slices(&theta)?), self.rows(&position, n)?);
        let (block, dim) = (self.passes().block(), self.passes().dim());
        let mut energy = vec![0.0f32; n];
        energy.par_chunks_mut(block).zip(rows.par_chunks(block * dim)).for_each(|(energy, x)| {
            self.with_work(|work| self.evaluate(&theta, x, energy, work, false));
            self.confine(x, energy);
        });
        Some(tensor(energy, [n], &x.device()))
    }

    /// `(U [n], ∇U [n, d])`, or `None` where a tensor is not a plain one on the CPU.
    pub fn energy_and_grad(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        let (theta, position, [n, dim]) = (hosts(theta)?, host(x)?, x.dims());
        let (theta, rows) = (self.passes().theta(&slices(&theta)?), self.rows(&position, n)?);
        let block = self.passes().block();
        let (ones, mut energy, mut grad) = (vec![1.0; block], vec![0.0f32; n], vec![0.0f32; n * dim]);
        let blocks = energy.par_chunks_mut(block).zip(grad.par_chunks_mut(block * dim));
        blocks.zip(rows.par_chunks(block * dim)).for_each(|((energy, grad), x)| {
            self.with_work(|work| self.both(&theta, x, energy, grad, &ones, work));
        });
        let device = x.device();
        Some((tensor(energy, [n], &device), tensor(grad, [n, dim], &device)))
    }

    /// [`CpuForm::energy_and_grad`] with what its parameter gradients need, unless that is more than [`KEPT_BYTES`].
    pub fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Evaluation> {
        let ([n, dim], block) = (x.dims(), self.passes().block());
        let kept_bytes = self.passes().kept_bytes().map(|bytes| bytes.saturating_mul(n.div_ceil(block)));
        if kept_bytes.is_none_or(|bytes| bytes > KEPT_BYTES) {
            let (energy, grad) = self.energy_and_grad(theta, x)?;
            return Some((energy, grad, None));
        }
        let (kept_theta, position) = (hosts(theta)?, host(x)?);
        let (theta, rows) = (self.passes().theta(&slices(&kept_theta)?), self.rows(&position, n)?);
        let (ones, mut energy, mut grad) = (vec![1.0; block], vec![0.0f32; n], vec![0.0f32; n * dim]);
        let blocks = energy.par_chunks_mut(block).zip(grad.par_chunks_mut(block * dim));
        let work = blocks.zip(rows.par_chunks(block * dim)).map(|((energy, grad), x)| {
            let mut work = self.0.pool.take(|| self.passes().work());
            self.both(&theta, x, energy, grad, &ones, &mut work);
            work
        });
        let work = Mutex::new(work.collect());
        drop(theta);
        let kept = Kept { form: self.clone(), theta: kept_theta, position, work };
        let device = x.device();
        Some((tensor(energy, [n], &device), tensor(grad, [n, dim], &device), Some(Arc::new(kept))))
    }

    /// Whether a block of so many rows is passed as two equal ones: a product with a single row takes another kernel, and a row's bits would
    /// depend on how many there are.
    pub fn is_doubled(&self, rows: usize) -> bool {
        rows == 1 && self.passes().block() > 1
    }

    /// [`Passes::evaluate`].
    fn evaluate(&self, theta: &P::Theta<'_>, x: &[f32], energy: &mut [f32], work: &mut P::Work, keep: bool) {
        if !self.is_doubled(energy.len()) {
            return self.passes().evaluate(theta, x, energy, work, keep);
        }
        let mut both = [0.0; 2];
        self.passes().evaluate(theta, &doubled(x), &mut both, work, keep);
        energy[0] = both[0];
    }

    /// [`Passes::backward`].
    fn backward(
        &self,
        theta: &P::Theta<'_>,
        x: &[f32],
        seed: &[f32],
        work: &mut P::Work,
        params: Option<&mut P::Grads>,
        input: Option<&mut [f32]>,
    ) {
        if !self.is_doubled(seed.len()) {
            return self.passes().backward(theta, x, seed, work, params, input);
        }
        let mut both = doubled(x);
        self.passes().backward(
            theta,
            &doubled(x),
            &[seed[0], 0.0],
            work,
            params,
            input.is_some().then_some(&mut both),
        );
        if let Some(input) = input {
            input.copy_from_slice(&both[..input.len()]);
        }
    }

    /// U and its gradient of one block, the confinement included.
    fn both(
        &self,
        theta: &P::Theta<'_>,
        x: &[f32],
        energy: &mut [f32],
        grad: &mut [f32],
        ones: &[f32],
        work: &mut P::Work,
    ) {
        self.evaluate(theta, x, energy, work, true);
        self.backward(theta, x, &ones[..energy.len()], work, None, Some(grad));
        self.confine(x, energy);
        let confinement = self.passes().confinement();
        if confinement != 0.0 {
            for (grad, &x) in grad.iter_mut().zip(x) {
                *grad += confinement * x;
            }
        }
    }

    /// `Σ_t Σ_b w ∂_θU` and the energies, or `None` where a tensor is not a plain one on the CPU.
    pub fn weighted_param_grads(
        &self,
        theta: &[Tensor<1>],
        terms: &[(Tensor<2>, Tensor<1>)],
    ) -> Option<WeightedGrads> {
        let device = theta.first()?.device();
        let theta = hosts(theta)?;
        let theta = self.passes().theta(&slices(&theta)?);
        let terms: Vec<_> = terms.iter().map(|(x, w)| Some((host(x)?, seeds(w)?))).collect::<Option<_>>()?;
        let mut energies: Vec<_> = terms.iter().map(|(_, weight)| vec![0.0f32; weight.len()]).collect();
        let (block, mut blocks) = (self.passes().block(), Vec::new());
        for ((x, weight), energy) in terms.iter().zip(&mut energies) {
            let x = self.rows(x, energy.len())?;
            let parts = x.chunks(block * self.passes().dim()).zip(weight.chunks(block));
            let parts = parts.zip(energy.chunks_mut(block));
            blocks.extend(parts.map(|((x, weight), energy)| Block { x, weight, energy }));
        }
        let grads = self.sum_over(&mut blocks, &|block: &mut Block<'_>, grads: &mut P::Grads| {
            let Block { x, weight, energy } = block;
            self.with_work(|work| {
                self.evaluate(&theta, x, energy, work, true);
                self.backward(&theta, x, weight, work, Some(grads), None);
            });
            self.confine(x, energy);
        });
        let flat = |values: Vec<Vec<f32>>| values.into_iter().map(|values| upload(values, &device)).collect();
        Some(WeightedGrads { grads: flat(self.passes().flattened(grads)), energies: flat(energies) })
    }

    /// What `add` adds for every block, halves added to halves.
    pub fn sum_over<B: Send>(
        &self,
        blocks: &mut [B],
        add: &(impl Fn(&mut B, &mut P::Grads) + Sync),
    ) -> P::Grads {
        if blocks.len() > self.passes().leaf() {
            let (left, right) = blocks.split_at_mut(blocks.len() / 2);
            let (mut sum, other) = rayon::join(|| self.sum_over(left, add), || self.sum_over(right, add));
            self.passes().add(&mut sum, &other);
            return sum;
        }
        let mut grads = self.passes().zeros();
        blocks.iter_mut().for_each(|block| add(block, &mut grads));
        grads
    }

    /// Adds `½ c |x|²`.
    fn confine(&self, x: &[f32], energy: &mut [f32]) {
        let confinement = self.passes().confinement();
        if confinement == 0.0 {
            return;
        }
        for (u, x) in energy.iter_mut().zip(x.chunks_exact(self.passes().dim())) {
            *u += 0.5 * confinement * square_norm(x);
        }
    }
}

/// The rows' weights, without those that count for nothing.
fn seeds(weights: &Tensor<1>) -> Option<Vec<f32>> {
    let weights = host(weights)?;
    Some(weights.as_slice::<f32>()?.iter().map(|&weight| settled(weight)).collect())
}

/// A row twice.
pub(crate) fn doubled(row: &[f32]) -> Vec<f32> {
    [row, row].concat()
}

/// Activations and signals of all blocks.
#[derive(Debug)]
struct Kept<P: Passes> {
    form: CpuForm<P>,
    theta: Vec<FloatTensor<Flex>>,
    position: FloatTensor<Flex>,
    /// Locked because a pass uses scratch in them; what is kept stays.
    work: Mutex<Vec<P::Work>>,
}

impl<P: Passes> Pass for Kept<P> {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        let device = weights.device();
        let weights = seeds(weights).expect("weights are 32-bit floats where the positions are");
        let passes = self.form.passes();
        let theta = slices(&self.theta).expect("as when the pass was made");
        let x = self.form.rows(&self.position, weights.len()).expect("as when the pass was made");
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks = x.chunks(passes.block() * passes.dim()).zip(weights.chunks(passes.block()));
        let mut blocks: Vec<_> = work.iter_mut().zip(blocks).collect();
        let grads = self.form.sum_over(&mut blocks, &|(work, (x, weight)), grads| match self
            .form
            .is_doubled(weight.len())
        {
            true => passes.param_grads(&theta, &doubled(x), &[weight[0], 0.0], work, grads),
            false => passes.param_grads(&theta, x, weight, work, grads),
        });
        passes.flattened(grads).into_iter().map(|values| upload(values, &device)).collect()
    }
}

impl<P: Passes> Drop for Kept<P> {
    fn drop(&mut self) {
        let work = self.work.get_mut().unwrap_or_else(PoisonError::into_inner);
        work.drain(..).for_each(|work| self.form.0.pool.put(work));
    }
}
