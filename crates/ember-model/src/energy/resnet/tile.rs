//! The buffers of one tile of a convolution.

/// What a convolution needs for a tile.
#[derive(Debug)]
pub(super) struct Tile {
    /// Patches, or their gradients.
    pub patches: Vec<f32>,
    /// A signal times the images' factors.
    pub scaled: Vec<f32>,
}
