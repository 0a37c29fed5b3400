//! The generator: published answers, the laws of its numbers, and their independence.

use ember_model::random::{Purpose, Stream, StreamOverflow, normal_pair, philox4x32_10};
use ember_sampler::Noise;
use ember_tests::assert_within_se;

/// `kat_vectors` of Random123 1.14.
#[test]
fn philox_gives_the_published_answers() {
    let answers = [
        ([0; 4], [0; 2], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]),
        (
            [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
            [0xA409_3822, 0x299F_31D0],
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
        ),
    ];
    for (counter, key, answer) in answers {
        assert_eq!(philox4x32_10(counter, key), answer);
    }
}

#[test]
fn the_counter_is_laid_out_as_documented() {
    let stream = Stream::new(0x0123_4567_89AB_CDEF, Purpose::DataNoise).lane(0xABCDEF).at(99).expect("small");
    assert_eq!(stream.key(), [0x89AB_CDEF, 0x0123_4567]);
    assert_eq!(stream.counter_tail(), [99, 0xABCD_EF09]);
    assert_eq!(stream.bits(5, 6), philox4x32_10([5, 6, 99, 0xABCD_EF09], stream.key()));
}

/// Stored numbers: a change of any of them breaks every run's reproducibility.
#[test]
fn numbers_are_stable() {
    let stream = Stream::new(42, Purpose::Noise).at(7).expect("small");
    assert_eq!(stream.normals(2, 3), NORMALS);
    assert_eq!(stream.permutation(8), PERMUTATION);
}
const NORMALS: [f32; 6] =
    [1.065_150_9, -0.817_524_73, -0.658_450_37, -0.028_016_15, -0.041_801_814, -0.192_555_13];
const PERMUTATION: [u32; 8] = [4, 6, 3, 2, 0, 7, 5, 1];

#[test]
fn a_step_beyond_32_bits_is_an_error() {
    let stream = Stream::new(0, Purpose::Noise);
    assert!(stream.at(u64::from(u32::MAX)).is_ok());
    assert_eq!(stream.at(1 << 32), Err(StreamOverflow { step: 1 << 32 }));
    assert!(StreamOverflow { step: 1 << 32 }.to_string().contains("4294967296"));
    assert!(Noise::at(0, 0, 1 << 30, 4, 0).is_err());
    assert!(Noise::at(0, 0, u64::MAX, u64::MAX, 1).is_err());
    let noise = Noise::at(3, 2, 1000, 4, 1).expect("small");
    assert_eq!(
        noise.stream(Purpose::Accept),
        Stream::new(3, Purpose::Accept).lane(2).at(4001).expect("small")
    );
}

#[test]
#[should_panic(expected = "24 bits")]
fn a_lane_beyond_24_bits_panics() {
    let _ = Stream::new(0, Purpose::Noise).lane(1 << 24);
}

#[test]
fn extreme_words_are_finite() {
    for a in [0, 1, u32::MAX] {
        for b in [0, 1 << 30, 1 << 31, u32::MAX] {
            let [x, y] = normal_pair(a, b);
            assert!(x.is_finite() && y.is_finite(), "{a} {b}: {x} {y}");
        }
    }
    assert_eq!(normal_pair(u32::MAX, 0), [0.0, 0.0]);
    assert!((normal_pair(0, 0)[0] - 6.763_7).abs() < 1e-3);
}

fn many_normals() -> Vec<f64> {
    Stream::new(2024, Purpose::Noise).normals(40_000, 50).into_iter().map(f64::from).collect()
}

/// `P(|ξ| > k)` for k = 2, 3, 4, 5.
const TAILS: [(f64, f64); 4] =
    [(2.0, 4.550_026_39e-2), (3.0, 2.699_796_06e-3), (4.0, 6.334_248_37e-5), (5.0, 5.733_031_44e-7)];

#[test]
fn normals_have_their_moments_and_tails() {
    let normals = many_normals();
    let n = normals.len() as f64;
    // E ξᵖ and Var ξᵖ = E ξ²ᵖ − (E ξᵖ)²
    for (power, mean, variance) in
        [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10_170.0)]
    {
        let moment = normals.iter().map(|x| x.powi(power)).sum::<f64>() / n;
        assert_within_se(moment, mean, (variance / n).sqrt(), 4.0);
    }
    for (bound, probability) in TAILS {
        let count = normals.iter().filter(|x| x.abs() > bound).count() as f64;
        assert_within_se(count, n * probability, (n * probability).sqrt().max(1.0), 4.0);
    }
}

/// Kolmogorov and Smirnov: `√n D` exceeds 1.95 with probability 1e-3 (Marsaglia, Tsang and Wang 2003).
fn kolmogorov_smirnov(mut values: Vec<f64>, cdf: impl Fn(f64) -> f64) {
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len() as f64;
    let distance = values
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let p = cdf(*x);
            (p - i as f64 / n).abs().max(((i + 1) as f64 / n - p).abs())
        })
        .fold(0.0, f64::max);
    assert!(distance * n.sqrt() < 1.95, "√n D = {}", distance * n.sqrt());
}

/// Φ by the series `½ + φ(x) Σ x^{2k+1}/(1·3·…·(2k+1))`.
fn normal_cdf(x: f64) -> f64 {
    if x.abs() > 7.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
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
    kolmogorov_smirnov(many_normals()[..200_000].to_vec(), normal_cdf);
    let stream = Stream::new(8, Purpose::Accept);
    kolmogorov_smirnov(stream.uniforms(20_000, 10).into_iter().map(f64::from).collect(), |u| u);
    kolmogorov_smirnov((0..200_000).map(|i| stream.uniform_f64(i)).collect(), |u| u);
}

#[test]
fn uniforms_stay_below_one() {
    let stream = Stream::new(1, Purpose::Accept);
    assert!(stream.uniforms(1000, 100).into_iter().all(|u| (0.0..1.0).contains(&u)));
    assert!((0..100_000).all(|i| (0.0..1.0).contains(&stream.uniform_f64(i))));
}

/// The words whose 24 bits are all 0 or all 1, where a logarithm of u, or of −log u, would be infinite.
#[test]
fn open_uniforms_never_reach_the_ends() {
    let at = |step| Stream::new(0, Purpose::Accept).at(step).expect("small");
    assert_eq!(
        (at(ZERO_WORD).uniforms(1, 1)[0], at(ZERO_WORD).open_uniforms(1, 1)[0]),
        (0.0, (-25f32).exp2())
    );
    let largest = 1.0 - (-24f32).exp2();
    assert_eq!((at(ONES_WORD).uniforms(1, 1)[0], at(ONES_WORD).open_uniforms(1, 1)[0]), (largest, largest));
    let (u, open) = (at(1).uniforms(500, 40), at(1).open_uniforms(500, 40));
    assert!(u.iter().zip(&open).all(|(u, open)| (f64::from(*open) - f64::from(*u)).abs() < (-23f64).exp2()));
}
/// Steps at which the first word of seed 0's acceptances has 24 zeros, and 24 ones, in front.
const ZERO_WORD: u64 = 1_054_365;
const ONES_WORD: u64 = 9_698_461;

fn assert_uncorrelated(a: &[f32], b: &[f32], what: &str) {
    let n = a.len() as f64;
    let correlation = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() / n;
    // of squares too: Var(ξ² − 1) = 2
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a).powi(2) - 1.0) * (f64::from(*b).powi(2) - 1.0));
    let squares = squares.sum::<f64>() / (2.0 * n);
    for value in [correlation, squares] {
        assert!(value.abs() < 4.0 / n.sqrt(), "{what}: correlation {value} of {n} pairs");
    }
}

#[test]
fn streams_coordinates_and_walkers_are_independent() {
    let (walkers, dim) = (10_000, 20);
    let base = Stream::new(1, Purpose::Noise).at(100).expect("small");
    let normals = base.normals(walkers, dim);
    let others = [
        ("next seed", Stream::new(2, Purpose::Noise).at(100)),
        ("seed's high half", Stream::new(1 + (1 << 32), Purpose::Noise).at(100)),
        ("next step", base.at(101)),
        ("purpose", Stream::new(1, Purpose::Accept).at(100)),
        ("lane", Ok(base.lane(1))),
    ];
    for (what, other) in others {
        assert_uncorrelated(&normals, &other.expect("small").normals(walkers, dim), what);
    }
    assert_uncorrelated(&normals[..(walkers - 1) * dim], &normals[dim..], "next walker");
    for lag in 1..8 {
        let (a, b): (Vec<f32>, Vec<f32>) =
            normals.chunks(dim).flat_map(|row| row.iter().zip(&row[lag..])).map(|(a, b)| (*a, *b)).unzip();
        assert_uncorrelated(&a, &b, "coordinates");
    }
}

#[test]
fn numbers_do_not_depend_on_how_many_are_asked_for() {
    let stream = Stream::new(6, Purpose::Start);
    let wide = stream.normals(5, 9);
    let narrow = stream.normals(3, 6);
    for walker in 0..3 {
        assert_eq!(narrow[6 * walker..6 * walker + 6], wide[9 * walker..9 * walker + 6]);
    }
}

#[test]
fn permutations_are_uniform() {
    let mut order = Stream::new(4, Purpose::Batch).permutation(1000);
    order.sort_unstable();
    assert!(order.into_iter().eq(0..1000));
    assert!(Stream::new(4, Purpose::Batch).permutation(0).is_empty());
    // each of the 24 permutations of 4 equally often: χ² with 23 degrees of freedom is below 49.7 in 999 of 1000 cases
    let mut counts = std::collections::HashMap::new();
    for step in 0..24_000 {
        let order = Stream::new(4, Purpose::Batch).at(step).expect("small").permutation(4);
        *counts.entry(order).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    let chi_square: f64 = counts.values().map(|count| (f64::from(*count) - 1000.0).powi(2) / 1000.0).sum();
    assert!(chi_square < 49.7, "{chi_square}");
}

#[test]
fn categories_have_their_probabilities() {
    let probabilities = [0.0, 0.25, 0.0, 0.5, 1.25, 0.0];
    let draws = Stream::new(10, Purpose::Start).categorical(100_000, &probabilities);
    for (index, probability) in probabilities.iter().enumerate() {
        let count = draws.iter().filter(|draw| **draw as usize == index).count() as f64;
        let p = probability / 2.0;
        assert_within_se(count, 1e5 * p, (1e5 * p * (1.0 - p)).sqrt(), 4.0);
    }
}
