//! Random numbers, resampling, and one step of ULA and MALA.

use burn::tensor::Device;
use ember_model::EnergyModel;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_sampler::device::{standard_normal, uniform};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::{Kernel, Noise, Scheme, Walkers, resample};

use super::energies::{matrix, model, on};
use super::{Check, Expected, Found};

/// Normals go up to 6.8; a logarithm, a root and a polynomial round some ten times by 2⁻²⁴ of that.
const NORMALS: f64 = 4e-6;
/// One evaluation of a network in f32 on either side, and an exponent of a weight that adds some of its numbers.
const STEP: f64 = 5e-5;

pub(super) fn random_numbers(check: &mut Check<'_>) {
    let device = check.device();
    // A seed, a lane and a step whose words are all in use.
    let noise = Noise { seed: 0xFEDC_BA98_7654_3210, lane: 3, step: 4_000_000_000 };
    let stream = noise.stream(Purpose::Noise);
    let expected = [Expected::of_size(stream.uniforms(20_001, 1), 1.0)];
    check.row("uniform numbers", "f64", 0.0, &expected, || {
        Ok(vec![download(uniform(20_001, stream, &device))])
    });
    let expected = [Expected::of_size(stream.normals(1_001, 50), 1.0)];
    check.row("normals", "f64", NORMALS, &expected, || {
        Ok(vec![download(standard_normal([1_001, 50], stream, &device))])
    });
}

/// Ancestors come from integer masses: they are equal to the bit on every device.
pub(super) fn resampling(check: &mut Check<'_>) {
    let (device, stream) = (check.device(), Stream::new(5, Purpose::Resampling));
    let log_weights: Vec<f32> = stream.lane(1).normals(20_001, 1).iter().map(|z| 2.0 * z).collect();
    for &scheme in Scheme::ALL {
        let ancestors = |device: &Device| -> Vec<f32> {
            let found = resample(scheme, upload(log_weights.clone(), device), stream);
            found.into_data().iter::<i64>().map(|ancestor| ancestor as f32).collect()
        };
        let expected = [Expected::of_size(ancestors(&Device::flex()), 1.0)];
        check.row(format!("ancestors, {}", scheme.name()), "flex", 0.0, &expected, || {
            Ok(vec![ancestors(&device)])
        });
    }
}

/// From walkers cached at one θ to one step at another.
pub(super) fn steps(check: &mut Check<'_>) {
    let Ok(before) = model("kind = \"mlp\"\ndim = 3\nhidden = [32, 32]\nconfinement = 0.7") else { return };
    let (device, flex) = (check.device(), Device::flex());
    let after =
        before.with_theta(before.theta().iter().map(|tensor| tensor.clone().mul_scalar(1.01)).collect());
    let x = Stream::new(9, Purpose::Start).normals(259, 3);
    let kernels: [(&str, Box<dyn Kernel>); 2] =
        [("a weighted ULA step", Box::new(Ula::new(0.1))), ("a MALA step", Box::new(Mala::new(0.3)))];
    for (name, kernel) in &kernels {
        let stepped = |device: &Device| -> Found {
            let [before, after] = [on(&before, device)?, on(&after, device)?];
            Ok(step(kernel.as_ref(), &before, &after, &x, device))
        };
        let Ok(reference) = stepped(&flex) else { continue };
        // Log-weights and acceptances are compared as they are: what they are made of is of order 1 and more.
        let expected: Vec<Expected> =
            reference.into_iter().map(|values| Expected::relative(values, 1.0)).collect();
        check.row(*name, "flex", STEP, &expected, || stepped(&device));
    }
}

/// Position, energy, gradient, log-weights and acceptances after the step.
fn step(
    kernel: &dyn Kernel,
    before: &EnergyModel,
    after: &EnergyModel,
    x: &[f32],
    device: &Device,
) -> Vec<Vec<f32>> {
    let walkers = kernel.prepare(after, Walkers::new(before, matrix(x, 3, device), 0.0));
    let (walkers, info) = kernel.step(after, walkers, &Noise { seed: 1, lane: 0, step: 5 });
    let mut found = vec![
        download(walkers.position),
        download(walkers.energy),
        download(walkers.energy_grad),
        download(walkers.log_weights.value()),
    ];
    found.extend(info.accept_rate.map(download));
    found
}
