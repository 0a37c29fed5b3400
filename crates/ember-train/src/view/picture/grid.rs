//! Image runs: data, walkers, the same walkers without the data's noise, and what the averaged weights give, side by side.
//!
//! The walkers shown are a systematic draw by weight at the current θ; those of an averaged θ are reweighted first,
//! `A += U_θ − U_EMA`. Only the images shown leave the device, and no other of the training set is unpacked.

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_sampler::Walkers;

use super::Scene;
use crate::error::Error;
use crate::view::denoise::denoised;
use crate::view::draw::by_weight;
use crate::view::plot::{self, ImagePanel};

/// Images of a panel, where they are not so large that fewer must do.
const SHOWN: usize = 64;
/// Lane of the generator that pictures use, apart from training's and sampling's.
const LANE: u32 = 1 << 19;

/// Draws the grid of a run on images of `shape` = `[c, h, w]` to `path`.
///
/// # Errors
/// Any I/O error.
pub fn write(scene: &Scene<'_>, shape: [usize; 3], path: &Path) -> Result<(), Error> {
    let walkers = &scene.walkers;
    let ess = walkers.summary().ess / walkers.count() as f64;
    let title = format!(
        "{} on {} · update {} · ess fraction {ess:.2}",
        scene.objective,
        scene.dataset.kind(),
        scene.step
    );
    let mut panels = panels(scene, shape)?;
    if scene.model.is_discrete() {
        // Zeros and ones as black and white
        panels.iter_mut().flat_map(|panel| &mut panel.pixels).for_each(|pixel| *pixel = 2.0 * *pixel - 1.0);
    }
    let notes = format!(
        "{} training images · {} walkers, {} starting ones still represented",
        plot::grouped(scene.data.train.len() / scene.data.shape.dim()),
        plot::grouped(walkers.count()),
        plot::grouped(walkers.distinct_ancestors())
    );
    plot::images(path, &title, &notes, shape, &panels)
}

/// The panels, at most [`SHOWN`] images each.
fn panels(scene: &Scene<'_>, shape: [usize; 3]) -> Result<Vec<ImagePanel>, Error> {
    let (seed, walkers) = (scene.seed, &scene.walkers);
    let sigma = scene.dataset.as_dyn().augmentation().noise;
    let noisy = sigma > 0.0;
    let u = Stream::new(seed, Purpose::Sample).lane(LANE).at(scene.step)?.uniform_f64(0);
    let caption = if noisy { format!("data, with noise of σ = {sigma}") } else { "data".to_owned() };
    let most = SHOWN.min(plot::most_images(shape));
    let mut panels = vec![ImagePanel { caption, pixels: data(scene, most, sigma) }];

    let shown = positions(walkers, most, u);
    panels
        .push(ImagePanel { caption: "walkers, drawn by weight".to_owned(), pixels: download(shown.clone()) });
    if noisy {
        panels.push(ImagePanel {
            caption: "the same walkers, denoised".to_owned(),
            pixels: download(denoised(scene.model, shown, sigma)),
        });
    }
    if let Some(ema) = &scene.ema {
        // A += U_θ(X) − U_EMA(X)
        let shown = positions(&walkers.clone().reweight(ema), most, u);
        let (caption, shown) = if noisy {
            ("averaged θ, by weight, denoised", denoised(ema, shown, sigma))
        } else {
            ("averaged θ, by weight", shown)
        };
        panels.push(ImagePanel { caption: caption.to_owned(), pixels: download(shown) });
    }
    Ok(panels)
}

/// The same training images every time, with the data's noise: the same noise every time.
fn data(scene: &Scene<'_>, most: usize, sigma: f64) -> Vec<f32> {
    let stream = Stream::new(scene.seed, Purpose::Sample).lane(LANE + 1);
    let dim = scene.data.shape.dim();
    let order = stream.permutation(scene.data.train.len() / dim);
    let rows = order.iter().take(most).map(|&row| row as usize);
    let mut pixels = scene.data.train.gather(dim, rows);
    if sigma > 0.0 {
        let noise = stream.lane(LANE + 2).normals(pixels.len() / dim, dim);
        pixels.iter_mut().zip(noise).for_each(|(pixel, xi)| *pixel += sigma as f32 * xi);
    }
    pixels
}

/// A draw by weight, `[shown, dim]`.
fn positions(walkers: &Walkers, most: usize, u: f64) -> Tensor<2> {
    let picked = by_weight(walkers, most.min(walkers.count()), u);
    let picked: Vec<i32> = picked.into_iter().map(|i| i as i32).collect();
    let count = picked.len();
    let picked = Tensor::<1, Int>::from_data(TensorData::new(picked, [count]), &walkers.position.device());
    walkers.position.clone().select(0, picked)
}
