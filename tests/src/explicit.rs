//! An explicit CPU form beside its tensor form on the tape.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};

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

/// [`difference`] of energies: of one image they may cancel to next to nothing, while what is added stays of order 1.
///
/// # Panics
/// Where [`difference`] does.
pub fn energy_difference(found: &Tensor<1>, reference: &Tensor<1>) -> f32 {
    let largest = largest(reference);
    difference(found, reference) * largest / largest.max(0.3)
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
        ("energy alone".to_owned(), energy_difference(&model.energy(x), &energy)),
        ("energy".to_owned(), energy_difference(&explicit_energy, &energy)),
        ("energy_grad".to_owned(), difference(&explicit_grad, &grad)),
    ];
    let terms = terms(model, n);
    let mut reference = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms);
    for (grad, spec) in reference.grads.iter_mut().zip(model.params()) {
        if spec.name.ends_with("log_masses") {
            // The first logit is frozen.
            let mut values = download(grad.clone());
            values[0] = 0.0;
            *grad = upload(values, model.device());
        }
    }
    let explicit = model.weighted_param_grads(&terms);
    for (explicit, reference) in explicit.energies.iter().zip(&reference.energies) {
        found.push(("energies of a term".to_owned(), energy_difference(explicit, reference)));
    }
    // The size of a gradient is that with |w|: weights of both signs may cancel down to rounding.
    let sizes: Vec<_> = terms.iter().map(|(x, w)| (x.clone(), w.clone().abs())).collect();
    let sizes = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &sizes).grads;
    let mut compare = |grads: &[Tensor<1>], how: &str| {
        let pairs = grads.iter().zip(&reference.grads).zip(&sizes).zip(model.params());
        found.extend(pairs.map(|(((grad, reference), size), spec)| {
            let scale = largest(size).max(largest(reference)).max(f32::MIN_POSITIVE);
            (spec.name + how, largest(&(grad.clone() - reference.clone())) / scale)
        }));
    };
    compare(&explicit.grads, "");
    if let Some(grads) = kept_grads(model, &terms) {
        compare(&grads, " of kept passes");
    }
    found
}

fn largest(tensor: &Tensor<1>) -> f32 {
    download(tensor.clone()).iter().map(|v| v.abs()).fold(0.0, f32::max)
}

/// The parameter gradients of the terms from passes kept while only their positions were known; `None` where the energy keeps
/// none.
pub fn kept_grads(model: &EnergyModel, terms: &[(Tensor<2>, Tensor<1>)]) -> Option<Vec<Tensor<1>>> {
    let model = model.keeping();
    // All passes before any gradient: none may disturb another.
    let passes: Option<Vec<_>> = terms.iter().map(|(x, _)| model.energy_and_grad_kept(x.clone()).2).collect();
    let grads = passes?.into_iter().zip(terms).map(|(pass, (_, weights))| {
        // Twice from one pass: a first call leaves it as it was.
        pass.weighted_param_grads(&weights.clone().mul_scalar(3.0));
        pass.weighted_param_grads(weights)
    });
    grads.reduce(|sum, grads| sum.into_iter().zip(grads).map(|(a, b)| a + b).collect())
}

/// A model with every parameter drawn, weights of variance 1 over the fan-in: a starting model's last layer is zero.
///
/// # Panics
/// If the text describes no energy.
pub fn drawn(metadata: &str, seed: u64, device: &Device) -> EnergyModel {
    let spec = EnergySpec::from_metadata(metadata).expect("an energy");
    let model = EnergyModel::init(spec, seed, device).expect("it fits");
    let theta = model.params().into_iter().enumerate().map(|(i, spec)| {
        let fan_in: usize = spec.shape[1..].iter().product();
        let std = (1.0 / fan_in as f32).sqrt() * if spec.shape.len() == 1 { 0.3 } else { 1.0 };
        let draws = Stream::new(seed, Purpose::Init).lane(100 + i as u32).normals(1, spec.len());
        upload(draws.into_iter().map(|z| std * z).collect(), model.device())
    });
    let theta = theta.collect();
    model.with_theta(theta)
}

/// Asserts that one thread and more give the same bits. (Pools of a size of their own, not the process's.)
///
/// # Panics
/// If they do not.
pub fn threads_do_not_matter(model: &EnergyModel, n: usize) {
    let everything = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let (energy, grad) = model.energy_and_grad(normals(model, n, 1));
            let grads = model.weighted_param_grads(&terms(model, n));
            let mut all =
                vec![download(energy), download(grad), download(model.energy(normals(model, n, 1)))];
            all.extend(grads.grads.into_iter().chain(grads.energies).map(download));
            all.extend(kept_grads(model, &terms(model, n)).into_iter().flatten().map(download));
            all
        })
    };
    let one = everything(1);
    for threads in [2, 3] {
        assert!(everything(threads) == one, "{threads} threads differ from one");
    }
}

/// Asserts that a comparison to within `tolerance` sees the largest weight of every layer off by 1 %.
///
/// # Panics
/// If it does not.
pub fn a_wrong_weight_is_seen(model: &EnergyModel, tolerance: f32) {
    let x = normals(model, 5, 7);
    let (energy, grad) = model.energy_and_grad(x.clone());
    for layer in (0..model.theta().len()).step_by(2) {
        let mut theta = model.theta().to_vec();
        let mut values = download(theta[layer].clone());
        let largest =
            (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).expect("weights");
        values[largest] *= 1.01;
        theta[layer] = upload(values, model.device());
        let (other_energy, other_grad) = model.with_theta(theta).energy_and_grad(x.clone());
        let seen = difference(&other_energy, &energy).max(difference(&other_grad, &grad));
        assert!(seen > tolerance, "layer {}: {seen:.2e} goes unseen", layer / 2);
    }
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
