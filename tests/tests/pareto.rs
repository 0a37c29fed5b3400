//! Pareto k̂: exact tails, and what is withheld where an ess fraction looks sound.

use ember_model::random::{Purpose, Stream};
use ember_sampler::diagnostics::pareto::{limit, shape};
use ember_sampler::statistics::ess_fraction;
use ember_tests::mean_se;

fn uniforms(seed: u64, n: usize) -> Vec<f64> {
    Stream::new(seed, Purpose::Data).open_uniforms(n, 1).into_iter().map(f64::from).collect()
}

/// Weights `w = u^{−k}` have a Pareto tail of shape k exactly. The prior, ten draws at ½ beside the tail's 3 √n, pulls by less than .05.
#[test]
fn exact_pareto_tails_have_their_shape() {
    for (set, k) in [0.2, 0.5, 0.8, 1.2].into_iter().enumerate() {
        let found: Vec<f64> = (0..32)
            .map(|seed| {
                let u = uniforms(100 * set as u64 + seed, 20_000);
                shape(&u.iter().map(|u| -k * u.ln()).collect::<Vec<_>>())
            })
            .collect();
        let (mean, se) = mean_se(&found);
        println!("k = {k}: {mean:.3} ± {se:.3}");
        assert!((mean - k).abs() < 4.0 * se + 0.05, "{mean} ± {se} for {k}");
    }
}

/// The target N(0, 1) by draws of N(0, s²): the weights have a tail of shape 1 − s² where the proposal is thinner, and none where it is wider.
#[test]
fn a_proposal_thinner_than_the_target_is_seen() {
    let n = 30_000;
    let z = Stream::new(7, Purpose::Data).normals(n, 1);
    // log p/q at x = s z: −x²/2 + z²/2 + log s
    let weights = |s: f64| -> Vec<f64> {
        z.iter().map(|&z| 0.5 * f64::from(z).powi(2) * (1.0 - s * s) + s.ln()).collect()
    };
    let (thin, wide) = (weights(0.4), weights(1.3));
    println!("thin: k {:.2}, ess {:.3}; wide: k {:.2}", shape(&thin), ess_fraction(&thin), shape(&wide));
    assert!(shape(&thin) > limit(n), "{}", shape(&thin));
    assert!(shape(&wide) < 0.2, "{}", shape(&wide));
}

#[test]
fn edges_have_a_shape_that_says_so() {
    assert_eq!(shape(&[0.0; 1_000]), f64::NEG_INFINITY);
    assert_eq!(shape(&[0.0; 4]), f64::INFINITY);
    assert_eq!(shape(&[f64::NEG_INFINITY; 100]), f64::INFINITY);
    assert!(shape(&[0.0, f64::NAN, 1.0]).is_nan());
    // Draws outside the support weigh nothing and are no tail.
    let mut some: Vec<f64> = uniforms(3, 2_000).iter().map(|u| -0.3 * u.ln()).collect();
    let whole = shape(&some);
    some.extend([f64::NEG_INFINITY; 50]);
    assert!((shape(&some) - whole).abs() < 0.1);
    assert!((limit(100) - 0.5).abs() < 1e-12 && limit(1_000_000) == 0.7);
}
