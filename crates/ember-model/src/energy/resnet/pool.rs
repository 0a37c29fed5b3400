//! Means over squares of 2×2 pixels of images `[b, h, w, c]`, and their way back. An odd last row or column is dropped.

use multiversion::multiversion;

/// `from: [images, h, w, c]`, `sizes = [c, h, w]`, to `to: [images, h/2, w/2, c]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn average(sizes: [usize; 3], images: usize, from: &[f32], to: &mut [f32]) {
    let [c, h, w] = sizes;
    let line = w * c;
    for b in 0..images {
        for y in 0..h / 2 {
            let from = &from[(b * h + 2 * y) * line..][..2 * line];
            let to = &mut to[(b * (h / 2) + y) * (w / 2) * c..][..(w / 2) * c];
            for (x, to) in to.chunks_exact_mut(c).enumerate() {
                let square = [0, c, line, line + c].map(|at| &from[2 * x * c + at..][..c]);
                for (i, to) in to.iter_mut().enumerate() {
                    *to = 0.25 * (square[0][i] + square[1][i] + square[2][i] + square[3][i]);
                }
            }
        }
    }
}

/// The gradient of [`average`]'s `from` for that of its `to`: a quarter for each pixel of a square, none for what is dropped.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn backward(sizes: [usize; 3], images: usize, grad: &[f32], to: &mut [f32]) {
    let [c, h, w] = sizes;
    for (at, to) in to[..images * h * w * c].chunks_exact_mut(w * c).enumerate() {
        let (b, y) = (at / h, at % h / 2);
        let kept = if y < h / 2 { w / 2 * 2 * c } else { 0 };
        let (kept, dropped) = to.split_at_mut(kept);
        dropped.fill(0.0);
        let grad = &grad[(b * (h / 2) + y.min(h / 2 - 1)) * (w / 2) * c..][..(w / 2) * c];
        for (to, grad) in kept.chunks_exact_mut(2 * c).zip(grad.chunks_exact(c)) {
            let (left, right) = to.split_at_mut(c);
            for ((left, right), grad) in left.iter_mut().zip(right).zip(grad) {
                (*left, *right) = (0.25 * grad, 0.25 * grad);
            }
        }
    }
}
