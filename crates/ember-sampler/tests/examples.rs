//! The examples run, and find what they should: each fails where a number is wrong.

#[path = "../examples/log_z.rs"]
mod log_z;
#[path = "../examples/mixed.rs"]
mod mixed;
#[path = "../examples/sample.rs"]
mod sample;

#[test]
fn an_energy_of_ones_own_is_sampled() {
    sample::main();
}

#[test]
fn its_log_z_is_found() {
    log_z::main();
}

#[test]
fn chains_that_have_not_mixed_are_told() {
    mixed::main();
}
