//! Replay: walkers go on as in persistent contrastive divergence, and some begin anew at noise.

use ember_model::params::download;
use ember_tests::configs::{config, refused, small};
use ember_tests::{assert_within_se, cpu};
use ember_train::training::trainer::Trainer;

const COUNT: usize = 4_000;

/// Positions after some updates, of walkers that start at the data, beyond the cube, and hardly move.
fn positions(objective: &str, updates: usize) -> Vec<f32> {
    positions_of(objective, updates, "")
}

fn positions_of(objective: &str, updates: usize, more: &str) -> Vec<f32> {
    let text = small(&format!(
        "objective = {objective}\nwalkers.count = {COUNT}\nwalkers.init = \"data\"\nkernel = {{ kind = \"mala\", step_size = 1e-9 }}\n\
         dataset.means = [[-30.0], [30.0]]\noptimizer.learning_rate = 1e-9\nresampling.scheme = \"none\"\n{more}"
    ));
    let mut trainer = Trainer::new(config(&text), &cpu()).expect("starts");
    for _ in 0..updates {
        trainer.update(false).expect("finite");
    }
    download(trainer.walkers.position)
}

fn replay(probability: f64) -> String {
    format!("{{ kind = \"replay_cd\", restart_probability = {probability:?} }}")
}

#[test]
fn walkers_restart_with_their_probability() {
    for (probability, updates) in [(0.05, 1), (0.05, 10), (0.5, 1)] {
        let found = positions_of(&replay(probability), updates, "energy.confinement = 4.0");
        let fresh: Vec<f64> =
            found.chunks_exact(2).filter(|x| x[0].abs() < 15.0).map(|x| f64::from(x[0])).collect();
        let expected = 1.0 - (1.0_f64 - probability).powi(updates as i32);
        let n = COUNT as f64;
        assert_within_se(fresh.len() as f64 / n, expected, (expected * (1.0 - expected) / n).sqrt(), 4.0);
        // N(0, I/c), c = 4.
        let m = fresh.len() as f64;
        assert_within_se(fresh.iter().sum::<f64>() / m, 0.0, (0.25 / m).sqrt(), 4.0);
        let square = fresh.iter().map(|x| x * x).sum::<f64>() / m;
        assert_within_se(square, 0.25, (0.125 / m).sqrt(), 4.0);
    }
    assert!(positions(&replay(1.0), 1).iter().all(|x| x.abs() < 6.0));
}

/// On a cube, uniform in it.
#[test]
fn a_cube_is_filled_evenly() {
    let cube = "dataset.means = [[-0.5], [0.5]]\ndataset.std = 0.05\nkernel.boundary = \"reflect\"\nenergy.confinement = 0.0";
    let found = positions_of(&replay(1.0), 1, cube);
    let m = found.len() as f64;
    let mean = found.iter().map(|&x| f64::from(x)).sum::<f64>() / m;
    let square = found.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / m;
    assert_within_se(mean, 0.0, (1.0 / 3.0 / m).sqrt(), 4.0);
    assert_within_se(square, 1.0 / 3.0, (4.0 / 45.0 / m).sqrt(), 4.0);
}

/// Without restarts it is persistent contrastive divergence, to the bit.
#[test]
fn without_restarts_it_is_persistent_cd() {
    assert_eq!(positions(&replay(0.0), 5), positions("{ kind = \"persistent_cd\" }", 5));
}

#[test]
fn mistakes_are_named() {
    for (value, part) in [("-0.1", "found -0.1"), ("1.5", "found 1.5"), ("nan", "found NaN")] {
        let table = format!("objective = {{ kind = \"replay_cd\", restart_probability = {value} }}");
        refused(&small(&table), &["objective.restart_probability", part]);
    }
}
