//! How much memory there is.

use std::fs;
use std::path::Path;

/// What there is. `None` is not known, and no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The device, for messages.
    pub device: String,
    /// Bytes of host memory that are free now.
    pub available: Option<u64>,
    /// Bytes of the device's own memory.
    pub on_device: Option<u64>,
    /// Bytes of the largest tensor the device can hold; a processor knows no such limit.
    pub largest: Option<u64>,
    /// Whether the device's tensors are in host memory.
    pub shared: bool,
}

impl Room {
    /// That of a processor.
    pub fn host(device: &str) -> Self {
        Self { device: device.to_owned(), available: available(), shared: true, ..Self::default() }
    }

    /// Whether it is a processor's.
    pub fn is_cpu(&self) -> bool {
        self.largest.is_none()
    }
}

/// What the system says is free without swapping, and no more than a control group allows in all.
fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let available = kilobytes(&meminfo, "MemAvailable:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(groups.lines().filter_map(group_limit).fold(available, u64::min))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest memory limit of a line of `/proc/self/cgroup` (`id:controllers:path`) and of the groups above it, where it has one.
fn group_limit(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = Path::new(path.trim_start_matches('/'));
    // `max` is no number, and no limit.
    let limit =
        |group: &Path| fs::read_to_string(Path::new(root).join(group).join(file)).ok()?.trim().parse().ok();
    path.ancestors().filter_map(limit).min()
}
