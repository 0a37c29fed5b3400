//! Simulation-based calibration: the rank of θ among draws of its posterior is uniform, of every kernel there is. `campaign calibration` makes a
//! thousand runs of each.

use ember_sampler::KernelConfig;
use ember_sampler::kernel::Mala;
use ember_tests::calibration::{EveryProposalTaken, Protocol, calibration, kernels, ranks};

const RUNS: u64 = 90;

#[test]
fn ranks_are_uniform() {
    let found = calibration(0..RUNS);
    found.iter().for_each(|ranks| println!("{ranks}"));
    // ULA has no unweighted chains; three quantities.
    assert_eq!(found.len(), 3 * (2 * kernels().len() - 1));
    // Block Gibbs moves bits.
    assert_eq!(kernels().len(), KernelConfig::KINDS.len() - 1);
    assert!(found.iter().all(|ranks| ranks.is_uniform()));
}

/// The test of the test: without rejections, and with weights of the reversible rule that ULA does not keep; and of a model too sure of its
/// data. (One that is not sure enough goes unseen, by design of the method: the prior itself has uniform ranks.)
#[test]
fn broken_samplers_are_seen() {
    let taken = EveryProposalTaken { step_size: 0.65 };
    let mala = Mala::new(0.15);
    let broken = [
        ranks("mala, every proposal taken", &taken, Protocol::Chains, 1.0, 0..RUNS),
        ranks("mala, every proposal taken", &taken, Protocol::Path, 1.0, 0..RUNS),
        ranks("mala, a model of another noise", &mala, Protocol::Chains, 0.5, 0..RUNS),
        ranks("mala, a model of another noise", &mala, Protocol::Path, 0.5, 0..RUNS),
    ];
    for found in broken {
        found.iter().for_each(|ranks| println!("{ranks}"));
        assert!(found.iter().any(|ranks| !ranks.is_uniform()), "{}", found[0].name);
    }
}
