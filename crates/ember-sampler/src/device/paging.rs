//! The operations behind [`Pages::select`](crate::Pages::select) on a GPU.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::CubeBackend;

use super::cube;
use super::place::Place;

/// The operations a GPU provides. Call [`gather`] instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
pub(crate) trait PagingOps: Backend {
    /// `[slots, dim]` with the rows of `page` where they belong; the others are not written.
    #[fusion(meta = |page, _ancestors, place| TensorSpec::new(Shape::from([place.slots, page.shape[1]]), page.dtype))]
    fn gather_first(page: FloatTensor<Self>, ancestors: IntTensor<Self>, place: Place) -> FloatTensor<Self>;

    /// `into` with the rows of `page` where they belong.
    #[fusion(meta = |into, _page, _ancestors, _place| into.clone())]
    fn gather_more(
        into: FloatTensor<Self>,
        page: FloatTensor<Self>,
        ancestors: IntTensor<Self>,
        place: Place,
    ) -> FloatTensor<Self>;
}

impl PagingOps for CubeBackend {
    fn gather_first(page: FloatTensor<Self>, ancestors: IntTensor<Self>, place: Place) -> FloatTensor<Self> {
        cube::paging::gather(None, page, ancestors, place)
    }

    fn gather_more(
        into: FloatTensor<Self>,
        page: FloatTensor<Self>,
        ancestors: IntTensor<Self>,
        place: Place,
    ) -> FloatTensor<Self> {
        cube::paging::gather(Some(into), page, ancestors, place)
    }
}

/// Rows of `pages` by `ancestors`, in pages of the same sizes: a launch for each pair.
pub(crate) fn gather(pages: &[Tensor<2>], ancestors: &Tensor<1, Int>) -> Vec<Tensor<2>> {
    let rows = pages[0].dims()[0];
    let gathered = |(output, like): (usize, &Tensor<2>)| {
        let place = |input: usize| Place { first: input * rows, slot: output * rows, slots: like.dims()[0] };
        let of = |page: &Tensor<2>| (page.clone().into_dispatch(), ancestors.clone().into_dispatch());
        let (page, index) = of(&pages[0]);
        let start = <Dispatch as PagingOps>::gather_first(page, index, place(0));
        let full = pages.iter().enumerate().skip(1).fold(start, |into, (input, page)| {
            let (page, index) = of(page);
            <Dispatch as PagingOps>::gather_more(into, page, index, place(input))
        });
        Tensor::from_dispatch(full)
    };
    pages.iter().enumerate().map(gathered).collect()
}
