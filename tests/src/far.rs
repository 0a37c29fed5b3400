//! The toy of one number: the mass of a mode.

use crate::small::with;

/// Two modes of unequal mass on a line, far apart; the masses are all that is learned (ALGORITHMS 2).
const FAR: &str = r#"
steps = 400
[dataset]
kind = "gaussian_mixture"
dim = 1
means = [[-10.0], [10.0]]
weights = [0.2, 0.8]
train_size = 2000
test_size = 100
[energy]
kind = "gaussian_mixture"
means = [[-10.0], [10.0]]
train_means = false
[walkers]
count = 100
[kernel]
kind = "ula"
step_size = 0.1
[objective]
kind = "jarzynski"
[optimizer]
kind = "sgd"
learning_rate = 0.1
"#;

/// The run on two modes far apart with other values, as `small` has them.
///
/// # Panics
/// If a line is no such thing.
pub fn far(changes: &str) -> String {
    with(FAR, changes)
}
