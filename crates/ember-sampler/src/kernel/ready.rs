//! From a kernel of a config to one that can move walkers.

use super::{Kernel, KernelConfig};
use crate::Proposals;
use crate::error::Error;

/// A kernel ready to move walkers: at `step_size`, where that is not its own, and with its flows.
///
/// # Errors
/// A kernel that proposes from flows, and none.
pub fn ready(
    kernel: &KernelConfig,
    step_size: Option<f64>,
    proposals: Option<&Proposals>,
) -> Result<Box<dyn Kernel>, Error> {
    let kernel = kernel.as_dyn();
    let sized = kernel.with_step_size(step_size.or(kernel.step_size()).unwrap_or_default());
    if !kernel.needs_proposals() {
        return Ok(sized);
    }
    proposals.and_then(|proposals| sized.with_proposals(proposals)).ok_or(Error::NoProposals)
}
