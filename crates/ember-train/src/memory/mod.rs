//! Whether a run fits the memory there is, asked before anything is drawn or written.
//!
//! [`Sizes::need`] counts what a run holds at one time whatever the kernel and the order of operations, and leaves out what comes and
//! goes: a floor. The measured peak is larger, by no more than [`PEAK`] where walkers, data or parameters are the bulk
//! (`tests/cli/memory.rs`), and on the CPU by the activations kept for a gradient, 256 MiB at most. A run is refused only where even the
//! floor does not fit; what is suggested instead fits with that factor. Between the two a run starts, with a warning.

mod room;
mod sizes;

pub use room::Room;
pub use sizes::{Need, Sizes};

use std::path::Path;

use crate::config::Config;
use crate::error::Error;

/// The most bytes of training data kept on the device; a larger set is sent batch by batch.
pub(crate) const DEVICE_BYTES: usize = 1 << 30;

/// The peak is at most this many times [`Sizes::need`], beside the program's own 30 MB.
pub const PEAK: f64 = 3.0;

/// A key that asks for memory, and the size it is.
type Key = (&'static str, &'static str, fn(&mut Sizes) -> &mut usize);

/// The keys whose values can be taken smaller; of two that help alike, the later one.
const KEYS: &[Key] = &[
    ("dataset", "test_size", |sizes| &mut sizes.test),
    ("dataset", "train_size", |sizes| &mut sizes.train),
    ("audit", "walkers", |sizes| &mut sizes.audit),
    ("walkers", "count", |sizes| &mut sizes.walkers),
    ("dataset", "batch_size", |sizes| &mut sizes.batch),
    ("walkers", "moved_per_update", |sizes| &mut sizes.moved),
];

/// Checks that a run fits, at best, and warns where its peak may not. `origin` is the config's file.
///
/// # Errors
/// [`Error::Config`] at the key that has to change the least, with what is needed, what there is and the largest value that fits.
pub fn check(config: &Config, room: &Room, origin: &Path) -> Result<(), Error> {
    let sizes = Sizes::of(config);
    let Some(message) = excess(sizes.need(room), room, 1.0) else {
        if let Some(message) = tight(config, room) {
            tracing::warn!("{}: {message}", origin.display());
        }
        return Ok(());
    };
    let origin = origin.display();
    let Some((section, key, found, value)) = smaller(&sizes, room) else {
        let message = format!(
            "{message}, and no one size made smaller would do: take a smaller energy, and fewer rows"
        );
        return Err(Error::config(origin, "energy", "", message));
    };
    let message = format!("found {found}, and {message}: the largest that fits is about {value}");
    Err(Error::config(origin, section, key, message))
}

/// What to say of a run that is not refused and whose peak may still be more than there is; `None` where all fits.
pub fn tight(config: &Config, room: &Room) -> Option<String> {
    let sizes = Sizes::of(config);
    let message = excess(sizes.need(room), room, PEAK)?;
    let advice = match smaller(&sizes, room) {
        Some((section, key, found, value)) => {
            format!("{section}.{key} = {found} is more than surely fits, which is about {value}")
        }
        None => "a smaller energy and fewer rows surely fit".to_owned(),
    };
    Some(format!("the run may end for want of memory: {message}; {advice}"))
}

/// The key whose value has to shrink by the smallest factor, its value and the largest that fits at the peak.
fn smaller(sizes: &Sizes, room: &Room) -> Option<(&'static str, &'static str, usize, usize)> {
    let shrunk = |&(section, key, size): &Key| {
        let found = *size(&mut sizes.clone());
        let fits = |value| {
            let mut smaller = sizes.clone();
            *size(&mut smaller) = value;
            excess(smaller.need(room), room, PEAK).is_none()
        };
        let value = largest(found, fits)?;
        Some((value as f64 / found as f64, section, key, found, value))
    };
    let least = KEYS.iter().filter_map(shrunk).max_by(|a, b| a.0.total_cmp(&b.0));
    least.map(|(_, section, key, found, value)| (section, key, found, value))
}

/// Checks that what a command was asked for fits, and warns where its peak may not; `flag` asked for `count`.
///
/// # Errors
/// [`Error::Usage`] with what is needed, what there is and the largest count that fits.
pub fn check_count(flag: &str, count: usize, need: impl Fn(usize) -> Need, room: &Room) -> Result<(), Error> {
    let advice = || match largest(count, |n| excess(need(n), room, PEAK).is_none()) {
        Some(n) => format!("the largest that fits is about {n}"),
        None => "not even 1 fits".to_owned(),
    };
    if let Some(message) = excess(need(count), room, 1.0) {
        return Err(Error::usage(format!("{flag} {count}: {message}: {}", advice())));
    }
    if let Some(message) = excess(need(count), room, PEAK) {
        tracing::warn!("{flag} {count} may end for want of memory: {message}: {}", advice());
    }
    Ok(())
}

/// What is needed and what there is, where `factor` times the need is too much.
fn excess(need: Need, room: &Room, factor: f64) -> Option<String> {
    let Room { device, largest, on_device, available, shared } = room;
    if let Some(there) = largest.filter(|&there| need.largest > there) {
        let (needed, there) = (bytes(need.largest), bytes(there));
        return Some(format!("a tensor of {needed} is needed, and {device} holds none larger than {there}"));
    }
    let times = |bytes: u64| (bytes as f64 * factor) as u64;
    let least = if factor > 1.0 { "up to" } else { "at least" };
    if let Some(there) = on_device.filter(|&there| times(need.device) > there) {
        let (needed, there) = (bytes(times(need.device)), bytes(there));
        return Some(format!("{least} {needed} are needed on {device}, which has {there}"));
    }
    let host = need.host.saturating_add(if *shared { need.device } else { 0 });
    let there = available.filter(|&there| times(host) > there)?;
    Some(format!("{least} {} of memory are needed, and {} are available", bytes(times(host)), bytes(there)))
}

/// The largest of 1 to `most` that fits, where all up to it do; two digits of it, for it is an estimate.
fn largest(most: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    let unit = 10usize.pow(low.checked_ilog10()?.saturating_sub(1));
    Some(low / unit * unit)
}

/// `3.2 GiB`.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let power = ((count.max(1).ilog2() / 10) as usize).clamp(1, units.len());
    format!("{:.1} {}", count as f64 / 1024f64.powi(power as i32), units[power - 1])
}
