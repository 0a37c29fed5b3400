//! Rows that one buffer of a device does not hold.
//!
//! A GPU binds buffers up to a size (2 GiB is common): 2¹⁸ walkers of 3,072 coordinates are 3 GiB. [`Pages`] keeps them in tensors of
//! equal numbers of rows and gathers across them.

use burn::tensor::{Int, Tensor};

#[cfg(feature = "wgpu")]
use crate::device;

/// Rows `[count, dim]` in consecutive tensors of as many rows each, of which the last may have fewer.
#[derive(Clone, Debug)]
pub struct Pages(Vec<Tensor<2>>);

impl Pages {
    /// These pages, in order.
    ///
    /// # Panics
    /// If there is none, or their shapes are not as said.
    pub fn new(pages: Vec<Tensor<2>>) -> Self {
        let [rows, dim] = pages.first().expect("at least one page").dims();
        let last = pages.len() - 1;
        for (i, page) in pages.iter().enumerate() {
            let [found, columns] = page.dims();
            let fits = if i < last { found == rows } else { found <= rows };
            assert!(
                fits && columns == dim,
                "page {i} of {} is [{found}, {columns}], the first [{rows}, {dim}]",
                last + 1
            );
        }
        Self(pages)
    }

    /// The most rows of `dim` floats that a tensor of `bytes` holds; at least one.
    pub fn rows_within(bytes: u64, dim: usize) -> usize {
        let row = (dim * size_of::<f32>()).max(1) as u64;
        usize::try_from(bytes / row).unwrap_or(usize::MAX).max(1)
    }

    /// Rows of all pages.
    pub fn count(&self) -> usize {
        self.0.iter().map(|page| page.dims()[0]).sum()
    }

    /// Columns.
    pub fn dim(&self) -> usize {
        self.0[0].dims()[1]
    }

    /// The tensors, in order.
    pub fn pages(&self) -> &[Tensor<2>] {
        &self.0
    }

    /// Row `i` of the result is row `ancestors[i]`, in pages of the same sizes. On a GPU every row is read and written once, in a launch
    /// for each pair of pages, whether or not the second has any row of the first.
    ///
    /// # Shapes
    /// * `ancestors`: `[count]`, in `0 .. count`.
    ///
    /// # Panics
    /// If there are not as many ancestors as rows.
    pub fn select(&self, ancestors: &Tensor<1, Int>) -> Self {
        assert_eq!(ancestors.dims(), [self.count()], "an ancestor for each row");
        if let [page] = self.0.as_slice() {
            return Self(vec![page.clone().select(0, ancestors.clone())]);
        }
        #[cfg(feature = "wgpu")]
        if device::is_gpu(&ancestors.device()) {
            return Self(device::paging::gather(&self.0, ancestors));
        }
        self.select_reference(ancestors)
    }

    /// The plain twin of [`Pages::select`], and what a processor does: all rows in one tensor.
    pub fn select_reference(&self, ancestors: &Tensor<1, Int>) -> Self {
        let rows = self.0[0].dims()[0];
        let gathered = Tensor::cat(self.0.clone(), 0).select(0, ancestors.clone());
        Self(gathered.split(rows, 0))
    }
}
