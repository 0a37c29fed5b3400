//! An explicit CPU form beside its tensor form on the tape.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};

/// Standard normals `[n, dim]`.
pub fn normals(model: &EnergyModel, n: usize, seed: u64) -> Tensor<2> {
    let values = Stream::new(seed, Purpose::Start).normals(n, model.dim());
    Tensor::from_data(TensorData::new(values, [n, model.dim()]), model.device())
}

/// Two terms of different sizes, with weights of both signs.
pub fn terms(model: &EnergyModel, n: usize) -> Vec<(Tensor<2>, Tensor<1>)> {
    [(n, 1), (n / 2 + 1, 2)]
        .map(|(n, seed)| {
            let weights = Stream::new(seed, Purpose::Noise).normals(1, n);
            (normals(model, n, seed), upload(weights, model.device()))
        })
        .to_vec()
}

/// The largest difference over the largest value of the reference.
///
/// # Panics
/// Where shapes differ or a number is not finite.
pub fn difference<const D: usize>(found: &Tensor<D>, reference: &Tensor<D>) -> f32 {
    let (found, reference) = (download(found.clone()), download(reference.clone()));
    assert_eq!(found.len(), reference.len());
    let scale = reference.iter().map(|v| v.abs()).fold(f32::MIN_POSITIVE, f32::max);
    assert!(found.iter().all(|v| v.is_finite()));
    found.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale
}

/// Everything the explicit form gives against the tape: what, and how far off.
///
/// # Panics
/// Where [`difference`] does.
pub fn differences(model: &EnergyModel, n: usize) -> Vec<(String, f32)> {
    let architecture = model.spec().build().expect("it fits");
    let x = normals(model, n, 7);
    let (energy, grad) = energy_and_grad_by_autodiff(architecture.as_ref(), model.theta(), x.clone());
    let (explicit_energy, explicit_grad) = model.energy_and_grad(x.clone());
    let mut found = vec![
        ("energy alone".to_owned(), difference(&model.energy(x), &energy)),
        ("energy".to_owned(), difference(&explicit_energy, &energy)),
        ("energy_grad".to_owned(), difference(&explicit_grad, &grad)),
    ];
    let terms = terms(model, n);
    let reference = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms);
    let explicit = model.weighted_param_grads(&terms);
    for (explicit, reference) in explicit.energies.iter().zip(&reference.energies) {
        found.push(("energies of a term".to_owned(), difference(explicit, reference)));
    }
    // The size of a gradient is that with |w|: weights of both signs may cancel down to rounding.
    let sizes: Vec<_> = terms.into_iter().map(|(x, w)| (x, w.abs())).collect();
    let sizes = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &sizes).grads;
    let pairs = explicit.grads.iter().zip(&reference.grads).zip(&sizes).zip(model.params());
    found.extend(pairs.map(|(((explicit, reference), size), spec)| {
        let largest =
            |tensor: &Tensor<1>| download(tensor.clone()).iter().map(|v| v.abs()).fold(0.0, f32::max);
        let scale = largest(size).max(largest(reference)).max(f32::MIN_POSITIVE);
        (spec.name, largest(&(explicit.clone() - reference.clone())) / scale)
    }));
    found
}

/// Asserts that the gradient in x is that of the energies, by a central difference along a direction: for activations whose
/// derivative on the tape is another approximation than the function.
///
/// # Panics
/// If it is not.
#[track_caller]
pub fn gradient_is_the_energies(model: &EnergyModel) {
    let (x, v) = (normals(model, 20, 1), normals(model, 20, 2));
    let step = 1e-2;
    let ahead = download(model.energy(x.clone() + v.clone() * step));
    let behind = download(model.energy(x.clone() - v.clone() * step));
    let slope = download((model.energy_and_grad(x).1 * v).sum_dim(1));
    for ((ahead, behind), slope) in ahead.iter().zip(&behind).zip(&slope) {
        let difference = (ahead - behind) / (2.0 * step as f32);
        assert!((difference - slope).abs() <= 2e-2 * slope.abs().max(1.0), "{difference} is not {slope}");
    }
}
