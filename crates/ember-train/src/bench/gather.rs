//! Resampling with what it is for: walkers of `dim` coordinates replaced by their ancestors, beside a plain copy of as much memory.
//!
//! *Bytes moved* counts one read and one write of every coordinate, for both. A walker that is drawn twice may come from a cache the
//! second time, so that the ratio to the copy can exceed 1.

use burn::tensor::{Device, Tensor};
use ember_model::random::Stream;
use ember_sampler::{Scheme, resample};
use serde_json::{Value, json};

use super::{WARM_UP, rates};
use crate::error::Error;

/// Resamplings of `log_weights` `[N]` that also gather `[N, dim]` positions, per second, and copies of the positions per second.
///
/// # Errors
/// The device fails, or a gathered row is not its ancestor's.
pub(super) fn measure(
    scheme: Scheme,
    log_weights: &Tensor<1>,
    dim: usize,
    stream: impl Fn(u64) -> Result<Stream, Error>,
    device: &Device,
) -> Result<Value, Error> {
    let [count] = log_weights.dims();
    // Row i holds i in every coordinate: what was gathered can be told from what it should be.
    let index = Tensor::<1, burn::tensor::Int>::arange(0..count as i64, device).float();
    let position = Tensor::<2>::zeros([count, dim], device) + index.reshape([count, 1]);
    let gather = |call: u64| -> Result<Tensor<2>, Error> {
        let ancestors = resample(scheme, log_weights.clone(), stream(call)?);
        Ok(position.clone().select(0, ancestors))
    };
    check(scheme, log_weights, stream(0)?, &gather(0)?)?;
    let copy = |_| Ok(position.clone().add_scalar(1.0));
    let mut last = None;
    // One result is alive at a time, and finished: work whose result is dropped unread may never be done.
    let mut timed = |work: &dyn Fn(u64) -> Result<Tensor<2>, Error>| {
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
        "gather_dim": dim, "gather_per_s": gathers_per_s, "bytes_moved": bytes, "bytes_per_s": bytes * gathers_per_s,
        "copy_bytes_per_s": bytes * copies_per_s, "share_of_copy": gathers_per_s / copies_per_s,
    }))
}

/// The first and last coordinates of the gathered rows against the ancestors. Counts up to 2²⁴ are exact in `f32`, larger ones are not looked at.
fn check(scheme: Scheme, log_weights: &Tensor<1>, stream: Stream, gathered: &Tensor<2>) -> Result<(), Error> {
    let [count, dim] = gathered.dims();
    if count > 1 << 24 {
        return Ok(());
    }
    let ancestors: Vec<i64> =
        resample(scheme, log_weights.clone(), stream).into_data().iter::<i64>().collect();
    for column in [0, dim - 1] {
        let values = ember_model::params::download(gathered.clone().narrow(1, column, 1).reshape([count]));
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
