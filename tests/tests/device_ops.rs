//! The fused operations against their plain twins, on the processor and on the GPU.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_sampler::device::{
    accumulate, accumulate_ula, langevin_proposal, langevin_proposal_reference, open_uniform,
    standard_normal, ula_log_weight_increment, ula_log_weight_increment_reference, uniform,
};
use ember_tests::{cpu, gpu};
use proptest::prelude::*;

const SHAPES: [[usize; 2]; 9] =
    [[1, 1], [1, 4], [3, 2], [7, 5], [100, 1], [33, 50], [5, 784], [2, 3072], [4001, 17]];

fn devices() -> impl Iterator<Item = Device> {
    [Some(cpu()), gpu()].into_iter().flatten()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}

#[test]
fn normals_are_those_of_the_reference() {
    let stream =
        Stream::new(0xFEDC_BA98_7654_3210, Purpose::Noise).lane(3).at(4_000_000_000).expect("fits 32 bits");
    for device in devices() {
        for [walkers, dim] in SHAPES {
            let found = floats(standard_normal([walkers, dim], stream, &device));
            let worst = worst(&found, &stream.normals(walkers, dim));
            assert!(worst < 2e-6, "{device:?} [{walkers}, {dim}]: {worst}");
        }
    }
}

#[test]
fn normals_on_the_processor_keep_within_a_millionth() {
    let stream = Stream::new(9, Purpose::Noise);
    let worst = worst(&floats(standard_normal([20_000, 50], stream, &cpu())), &stream.normals(20_000, 50));
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn uniforms_are_the_references_bits() {
    let stream = Stream::new(5, Purpose::Accept).at(77).expect("small");
    for device in devices() {
        for walkers in [1, 16, 17, 5000] {
            assert_eq!(
                floats(uniform(walkers, stream, &device)),
                stream.uniforms(walkers, 1),
                "{device:?} {walkers}"
            );
            assert_eq!(
                floats(open_uniform(walkers, stream, &device)),
                stream.open_uniforms(walkers, 1),
                "{device:?} {walkers}"
            );
        }
    }
}

#[test]
fn a_proposal_is_its_reference() {
    let stream = Stream::new(17, Purpose::Noise).at(5).expect("small");
    for device in devices() {
        for shape in SHAPES {
            let x = standard_normal(shape, stream.lane(1), &device).mul_scalar(3.0);
            let grad = standard_normal(shape, stream.lane(2), &device);
            let fused = langevin_proposal(x.clone(), grad.clone(), 0.1, 0.4, stream);
            let plain = langevin_proposal_reference(x, grad, 0.1, 0.4, stream);
            let worst = worst(&floats(fused), &floats(plain));
            assert!(worst < 3e-6, "{device:?} {shape:?}: {worst}");
        }
    }
}

/// Views that are not contiguous are read in their logical order.
#[test]
fn a_proposal_reads_views() {
    let stream = Stream::new(3, Purpose::Noise);
    for device in devices() {
        let x = standard_normal([6, 10], stream.lane(1), &device);
        let grad = standard_normal([12, 6], stream.lane(2), &device).slice([1..11, 0..6]).transpose();
        let fused = langevin_proposal(x.clone(), grad.clone(), 0.5, 1.0, stream);
        let plain = langevin_proposal_reference(x, grad, 0.5, 1.0, stream);
        assert!(worst(&floats(fused), &floats(plain)) < 3e-6, "{device:?}");
    }
}

/// Chunks of rows end at any walker: a large population has the numbers of a small one, to the bit.
#[test]
fn a_walkers_noise_does_not_depend_on_the_population() {
    let stream = Stream::new(1, Purpose::Noise);
    for device in devices() {
        let many = floats(standard_normal([30_000, 7], stream, &device));
        let few = floats(standard_normal([777, 7], stream, &device));
        assert_eq!(many[..few.len()], few[..], "{device:?}");
    }
}

#[test]
fn an_increment_is_its_reference() {
    let stream = Stream::new(23, Purpose::Noise);
    let h = 0.1;
    for device in devices() {
        for shape @ [walkers, dim] in SHAPES {
            let x = standard_normal(shape, stream.lane(1), &device);
            let y = standard_normal(shape, stream.lane(2), &device);
            let gx = standard_normal(shape, stream.lane(3), &device);
            let gy = standard_normal(shape, stream.lane(4), &device);
            let ux = standard_normal([walkers, 1], stream.lane(5), &device).reshape([walkers]);
            let uy = standard_normal([walkers, 1], stream.lane(6), &device).reshape([walkers]);
            let fused = ula_log_weight_increment(
                x.clone(),
                y.clone(),
                ux.clone(),
                gx.clone(),
                uy.clone(),
                gy.clone(),
                h,
            );
            let plain = ula_log_weight_increment_reference(x, y, ux, gx, uy, gy, h);
            let worst = worst(&floats(fused), &floats(plain));
            assert!(worst < 4e-6 * (dim as f32).sqrt() + 4e-6, "{device:?} {shape:?}: {worst}");
        }
    }
}

/// Both in one: the pair's sum is that of the increment added afterwards.
#[test]
fn an_accumulated_increment_is_the_two_in_turn() {
    let stream = Stream::new(29, Purpose::Noise);
    for device in devices() {
        for shape @ [walkers, dim] in SHAPES {
            let matrix = |lane| standard_normal(shape, stream.lane(lane), &device);
            let vector = |lane| standard_normal([walkers, 1], stream.lane(lane), &device).reshape([walkers]);
            let pair = (vector(1).mul_scalar(1e3), vector(2).mul_scalar(1e-5));
            let (from, to) = ((matrix(3), vector(4), matrix(5)), (matrix(6), vector(7), matrix(8)));
            let (hi, lo) = accumulate_ula(pair.clone(), from.clone(), to.clone(), 0.1);
            let increment = ula_log_weight_increment(from.0, to.0, from.1, from.2, to.1, to.2, 0.1);
            let (other_hi, other_lo) = accumulate(pair.0, pair.1, increment);
            let sum = |hi: Tensor<1>, lo: Tensor<1>| -> Vec<f64> {
                floats(hi).iter().zip(floats(lo)).map(|(hi, lo)| f64::from(*hi) + f64::from(lo)).collect()
            };
            for (found, expected) in sum(hi, lo).iter().zip(sum(other_hi, other_lo)) {
                // Of the increment's rounding, not of the sum's.
                let off = (found - expected).abs();
                assert!(off < 4e-6 * (dim as f64).sqrt() + 4e-6, "{device:?} {shape:?}: {off}");
            }
        }
    }
}

/// The paper's two `α` in double precision, for one walker.
fn exact_increment(x: &[f32], y: &[f32], ux: f32, gx: &[f32], uy: f32, gy: &[f32], h: f64) -> f64 {
    let alpha = |a: &[f32], b: &[f32], u: f32, g: &[f32]| {
        let terms = a.iter().zip(b).zip(g).map(|((a, b), g)| {
            let (a, b, g) = (f64::from(*a), f64::from(*b), f64::from(*g));
            0.5 * (b - a) * g + 0.25 * h * g * g
        });
        f64::from(u) + terms.sum::<f64>()
    };
    alpha(x, y, ux, gx) - alpha(y, x, uy, gy)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_increment_is_exact(
        rows in prop::collection::vec((-5.0f32..5.0, -5.0f32..5.0, -3.0f32..3.0, -3.0f32..3.0), 1..90),
        ux in -100.0f32..100.0,
        uy in -100.0f32..100.0,
        h in 0.001f32..1.0,
    ) {
        let column = |pick: fn(&(f32, f32, f32, f32)) -> f32| -> Vec<f32> { rows.iter().map(pick).collect() };
        let (x, y, gx, gy) = (column(|r| r.0), column(|r| r.1), column(|r| r.2), column(|r| r.3));
        let device = cpu();
        let matrix = |v: &Vec<f32>| Tensor::<2>::from_data(TensorData::new(v.clone(), [1, v.len()]), &device);
        let scalar = |u: f32| Tensor::<1>::from_data(TensorData::new(vec![u], [1]), &device);
        let found = floats(ula_log_weight_increment(
            matrix(&x), matrix(&y), scalar(ux), matrix(&gx), scalar(uy), matrix(&gy), h,
        ));
        let exact = exact_increment(&x, &y, ux, &gx, uy, &gy, f64::from(h));
        prop_assert!((f64::from(found[0]) - exact).abs() < 2e-4, "{} against {exact}", found[0]);
    }

    #[test]
    fn a_proposal_of_any_shape(walkers in 1usize..40, dim in 1usize..40, seed in any::<u64>(), step in any::<u32>()) {
        let stream = Stream::new(seed, Purpose::Noise).at(u64::from(step)).expect("fits 32 bits");
        let found = floats(standard_normal([walkers, dim], stream, &cpu()));
        prop_assert!(worst(&found, &stream.normals(walkers, dim)) < 1e-6);
    }
}
