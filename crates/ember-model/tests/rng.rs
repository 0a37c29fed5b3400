//! A stream as a generator of `rand`: its numbers are stable, its own, and have the laws they should.

use std::collections::HashSet;

use ember_model::random::{Purpose, Stream, StreamRng, philox4x32_10};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, StandardNormal};

fn stream() -> Stream {
    Stream::new(42, Purpose::Data).lane(3).at(7).expect("small")
}

/// Stored numbers: who drew with them once gets the same again.
#[test]
fn numbers_are_stable() {
    let mut rng = stream().rng();
    assert_eq!(std::array::from_fn(|_| rng.next_u32()), WORDS);
    let mut rng = stream().rng();
    assert_eq!(std::array::from_fn(|_| rng.next_u64()), PAIRS);
}
const WORDS: [u32; 8] =
    [0xAE74_A69D, 0x0C3F_418E, 0x28C1_32A9, 0x1BC5_6EB4, 0xD749_3171, 0xA85D_0B77, 0x2965_26B5, 0x0CAD_0682];
const PAIRS: [u64; 8] = [
    0x0C3F_418E_AE74_A69D,
    0x1BC5_6EB4_28C1_32A9,
    0xA85D_0B77_D749_3171,
    0x0CAD_0682_2965_26B5,
    0x663D_F095_5E81_F381,
    0xDCF2_2596_9F52_2536,
    0x4050_085A_712A_D3EC,
    0xA650_4862_7039_B399,
];

#[test]
fn the_counter_is_laid_out_as_documented() {
    let [step, purpose] = stream().counter_tail();
    let words = |block| philox4x32_10([block, 0, step, purpose + 128], stream().key());
    let mut rng = stream().rng();
    for block in 0..3 {
        assert_eq!(std::array::from_fn(|_| rng.next_u32()), words(block));
    }
}

/// However words, pairs and bytes follow one another, none is used twice or left out but for the rest of a word.
#[test]
fn words_pairs_and_bytes_are_one_sequence() {
    let (mut words, mut mixed) = (stream().rng(), stream().rng());
    let take = |rng: &mut StreamRng| u64::from(rng.next_u32());
    for _ in 0..5 {
        assert_eq!(u64::from(mixed.next_u32()), take(&mut words));
        assert_eq!(mixed.next_u64(), take(&mut words) | take(&mut words) << 32);
        let mut bytes = [0; 7];
        mixed.fill_bytes(&mut bytes);
        let [low, high] = [take(&mut words), take(&mut words)].map(|word| (word as u32).to_le_bytes());
        assert_eq!(bytes, [low[0], low[1], low[2], low[3], high[0], high[1], high[2]]);
    }
}

#[test]
fn a_clone_goes_on_where_it_was_made() {
    let mut rng = stream().rng();
    rng.next_u32();
    let mut copy = rng.clone();
    assert_eq!(copy.random::<[u32; 8]>(), rng.random::<[u32; 8]>());
}

/// Of 10⁵ words and 10⁵ others, 2.3 pairs of equal ones are expected by chance; an overlap would make thousands.
#[test]
fn no_number_is_one_of_another_stream_or_method() {
    let words = |mut rng: StreamRng| -> HashSet<u32> { (0..100_000).map(|_| rng.next_u32()).collect() };
    let own = words(stream().rng());
    let others = [
        ("seed", Stream::new(43, Purpose::Data).lane(3).at(7).expect("small")),
        ("purpose", Stream::new(42, Purpose::Batch).lane(3).at(7).expect("small")),
        ("lane", stream().lane(4)),
        ("step", stream().at(8).expect("small")),
    ];
    for (what, other) in others {
        let shared = own.intersection(&words(other.rng())).count();
        assert!(shared < 20, "another {what}: {shared} words");
    }
    let blocks = (0..250).flat_map(|walker| (0..100).flat_map(move |block| stream().bits(block, walker)));
    let shared = blocks.filter(|word| own.contains(word)).count();
    assert!(shared < 20, "the same stream's own words: {shared}");
}

/// `√n D` of Kolmogorov and Smirnov exceeds this with probability α = 10⁻³ (Marsaglia, Tsang and Wang 2003).
const CRITICAL: f64 = 1.95;

/// `√n D`, with D the largest distance between the values' distribution function and `cdf`.
fn distance(mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len() as f64;
    let gaps = values.iter().enumerate().map(|(i, x)| {
        let (below, p) = (i as f64 / n, cdf(*x));
        (p - below).abs().max((below + n.recip() - p).abs())
    });
    gaps.fold(0.0, f64::max) * n.sqrt()
}

/// Φ by the series `½ + φ(x) Σ x^{2k+1}/(1·3·…·(2k+1))`.
fn normal_cdf(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        k += 2.0;
        term *= x * x / k;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

#[test]
fn distributions_pass_kolmogorov_smirnov() {
    const COUNT: usize = 200_000;
    let draws = |lane: u32, draw: &dyn Fn(&mut StreamRng) -> f64| -> Vec<f64> {
        let mut rng = Stream::new(8, Purpose::Sample).lane(lane).rng();
        (0..COUNT).map(|_| draw(&mut rng)).collect()
    };
    let normals = draws(2, &|rng| StandardNormal.sample(rng));
    let distances = [
        ("uniform", distance(draws(0, &|rng| rng.random()), |u| u)),
        ("range", distance(draws(1, &|rng| rng.random_range(-3.0..5.0)), |x| (x + 3.0) / 8.0)),
        ("exponential", distance(draws(3, &|rng| Exp1.sample(rng)), |x: f64| -(-x).exp_m1())),
        ("normal", distance(normals.clone(), normal_cdf)),
    ];
    for (what, distance) in distances {
        assert!(distance < CRITICAL, "{what}: √n D = {distance}");
    }
    // The test can fail: a standard deviation that is 4 % off is seen.
    assert!(distance(normals, |x| normal_cdf(1.04 * x)) > 2.0 * CRITICAL);
}
