//! The buffers of one block of rows.

use super::super::steps::{Network, Step};

/// Rows per block: enough for the matrix products, few enough that what the way back needs stays in the cache.
pub(super) const BLOCK: usize = 128;

/// What a pass keeps of one step, for the way back.
#[derive(Debug, Default)]
pub(in super::super) struct Kept {
    /// The coordinates after the step.
    pub state: Vec<f32>,
    /// Of each layer of a coupling's network: `a(z)`, and of the last one `[tanh′ | e^{−s}]`.
    pub outputs: Vec<Vec<f32>>,
    /// `a′(z)` of each layer but the last; on the way back, δ.
    pub slopes: Vec<Vec<f32>>,
}

/// The buffers of one block; all are `[numbers, rows]`.
#[derive(Debug)]
pub(in super::super) struct Workspace {
    /// The coordinates.
    pub state: Vec<f32>,
    /// `log |det|` so far.
    pub log_det: Vec<f64>,
    /// The gradient of the coordinates.
    pub grad: Vec<f32>,
    /// The gradient of a hidden layer.
    pub signal: Vec<f32>,
    /// One for each step; a pass that keeps nothing needs only the first.
    pub kept: Vec<Kept>,
}

impl Workspace {
    pub fn new(network: &Network) -> Self {
        let positions = || vec![0.0; network.dim * BLOCK];
        Self {
            state: positions(),
            log_det: vec![0.0; BLOCK],
            grad: positions(),
            signal: vec![0.0; widest(network) * BLOCK],
            kept: Vec::new(),
        }
    }

    /// Makes room for what a pass keeps of every step, or of one at a time.
    pub fn make_room(&mut self, network: &Network, keep: bool) {
        let layers = network.steps.iter().map(|(_, step)| match step {
            Step::Coupling(coupling) => coupling.shapes.len(),
            _ => 0,
        });
        let (layers, len) = (layers.max().unwrap_or(0), widest(network) * BLOCK);
        let steps = if keep { network.steps.len() } else { 1 };
        while self.kept.len() < steps {
            self.kept.push(Kept {
                state: vec![0.0; network.dim * BLOCK],
                outputs: vec![vec![0.0; len]; layers],
                slopes: vec![vec![0.0; len]; layers.saturating_sub(1)],
            });
        }
    }
}

/// The widest layer of any network.
fn widest(network: &Network) -> usize {
    let widths = network.steps.iter().map(|(_, step)| match step {
        Step::Coupling(coupling) => coupling.widest(),
        _ => 0,
    });
    widths.max().unwrap_or(0)
}
