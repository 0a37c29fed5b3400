//! The 95 % intervals of log Z cover the exact value as often as they say, and the on-line value is biased as predicted
//! (ALGORITHMS 1.6, 9): 400 runs, .92–.98. `campaign coverage` makes a thousand.

use ember_tests::coverage::coverage;
use ember_tests::mean_se;

#[test]
fn intervals_cover_the_exact_log_z() {
    let (all, online) = coverage(0..400, &[8]);
    for intervals in &all {
        println!("{intervals}");
        assert!((0.92..=0.98).contains(&intervals.share()), "{intervals}");
    }
    // The on-line value is biased low: the reason it is never reported as the model's.
    let (bias, se) = mean_se(&online);
    println!("on-line: mean error {bias:+.4} ± {se:.4}");
    assert!(bias < -4.0 * se, "on-line bias {bias} ± {se}");
}
