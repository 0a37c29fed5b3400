//! Resampling with what it is for: walkers of `dim` coordinates replaced by their ancestors, beside a plain copy of as much memory.
//!
//! *Bytes moved* counts one read and one write of every coordinate, for both. A walker that is drawn twice may come from a cache the
//! second time, so that the ratio to the copy can exceed 1.

use burn::tensor::{Device, Int, Tensor};
use ember_model::random::Stream;
use ember_sampler::{Pages, Scheme, resample};
use serde_json::{Value, json};

use super::{WARM_UP, rates};
use crate::error::Error;

/// Resamplings of `log_weights` `[N]` that also gather `[N, dim]` positions, per second, and copies of the positions per second. The
/// positions are in pages of `largest` bytes at most.
///
/// # Errors
/// The device fails, or a gathered row is not its ancestor's.
pub(super) fn measure(
    scheme: Scheme,
    log_weights: &Tensor<1>,
    dim: usize,
    largest: u64,
    stream: impl Fn(u64) -> Result<Stream, Error>,
    device: &Device,
) -> Result<Value, Error> {
    let [count] = log_weights.dims();
    let position = numbered(count, dim, Pages::rows_within(largest, dim), device);
    let gather = |call: u64| -> Result<Pages, Error> {
        let ancestors = resample(scheme, log_weights.clone(), stream(call)?);
        Ok(position.select(&ancestors))
    };
    check(scheme, log_weights, stream(0)?, &gather(0)?)?;
    let copy = |_| Ok(Pages::new(position.pages().iter().map(|page| page.clone().add_scalar(1.0)).collect()));
    let mut last = None;
    // One result is alive at a time, and finished: work whose result is dropped unread may never be done.
    let mut timed = |work: &dyn Fn(u64) -> Result<Pages, Error>| {
        rates(device, WARM_UP, 1, |call| {
            drop(last.take());
            last = Some(work(call)?);
            Ok(())
        })
    };
    timed(&copy)?;
    let [copies_per_s, _] = timed(&copy)?;
    timed(&gather)?;
    let [gathers_per_s, _] = timed(&gather)?;
    let bytes = 2.0 * (count * dim * size_of::<f32>()) as f64;
    Ok(json!({
        "gather_dim": dim, "pages": position.pages().len(), "gather_per_s": gathers_per_s, "bytes_moved": bytes, "bytes_per_s": bytes * gathers_per_s,
        "copy_bytes_per_s": bytes * copies_per_s, "share_of_copy": gathers_per_s / copies_per_s,
    }))
}

/// Row i holds i in every coordinate: what was gathered can be told from what it should be.
fn numbered(count: usize, dim: usize, rows: usize, device: &Device) -> Pages {
    let page = |first: usize| {
        let last = count.min(first + rows);
        let index = Tensor::<1, Int>::arange(first as i64..last as i64, device).float();
        Tensor::<2>::zeros([last - first, dim], device) + index.reshape([last - first, 1])
    };
    Pages::new((0..count).step_by(rows).map(page).collect())
}

/// The first and last coordinates of the gathered rows against the ancestors. Counts up to 2²⁴ are exact in `f32`, larger ones are not looked at.
fn check(scheme: Scheme, log_weights: &Tensor<1>, stream: Stream, gathered: &Pages) -> Result<(), Error> {
    let (count, dim) = (gathered.count(), gathered.dim());
    if count > 1 << 24 {
        return Ok(());
    }
    let ancestors: Vec<i64> =
        resample(scheme, log_weights.clone(), stream).into_data().iter::<i64>().collect();
    for column in [0, dim - 1] {
        let columns = gathered.pages().iter().map(|page| page.clone().narrow(1, column, 1).flatten(0, 1));
        let values: Vec<f32> =
            columns.flat_map(|column: Tensor<1>| ember_model::params::download(column)).collect();
        let wrong = values.iter().zip(&ancestors).position(|(&value, &ancestor)| value != ancestor as f32);
        if let Some(row) = wrong {
            return Err(Error::failed(format!(
                "the gather is wrong: row {row}, coordinate {column} holds {}, its ancestor is {}",
                values[row], ancestors[row]
            )));
        }
    }
    Ok(())
}
