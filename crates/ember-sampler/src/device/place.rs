//! Where rows lie in pages.

/// Where rows lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The first row of the page that is read, among all.
    pub(crate) first: usize,
    /// The first slot of the page that is written, among all.
    pub(crate) slot: usize,
    /// Slots of the page that is written.
    pub(crate) slots: usize,
}
