//! `--device`: which device a run is on, and which ones there are.
//!
//! Adapters are listed through wgpu on the native graphics APIs only (`adapters.rs`), numbered discrete, integrated, virtual,
//! software, and opened with that API pinned: burn's own choice falls back to GL without a word where no Vulkan driver works.
//! CUDA devices (`cuda.rs`) are numbered as the driver numbers them. `flex` and `ndarray` are had without asking wgpu or CUDA for
//! anything.

use std::path::Path;

use burn::tensor::Device;
use ember_model::Precision;

use crate::error::Error;
use crate::memory::Room;

#[cfg(feature = "wgpu")]
mod adapters;
pub mod cuda;
pub mod panics;

/// The device of a run.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The device itself.
    pub device: Device,
    /// For people: `flex`, `wgpu:0 (NVIDIA H200, discrete, vulkan, wgsl)`.
    pub name: String,
    /// What `--device` takes: `flex`, `wgpu:0`, `cuda:0`.
    pub label: String,
}

impl Selected {
    /// The precisions that matrix products can have on it.
    pub fn precisions(&self) -> Vec<Precision> {
        #[cfg(feature = "wgpu")]
        if let Some(found) = ember_model::precision::of_gpu(&self.device) {
            return found;
        }
        vec![Precision::F32]
    }

    /// Checks that it has the precision a config asks for; `origin` is the config's file.
    ///
    /// # Errors
    /// [`Error::Config`] at `precision`, with what the device has.
    pub fn check_precision(&self, precision: Precision, origin: &Path) -> Result<(), Error> {
        let there = self.precisions();
        if there.contains(&precision) {
            return Ok(());
        }
        let there: Vec<String> = there.iter().map(Precision::to_string).collect();
        let message = format!(
            "found \"{precision}\", and the device {} computes in {}: take that, or another --device (`ember devices` lists \
             what each has)",
            self.name,
            there.join(" or ")
        );
        Err(Error::config(origin.display(), "", "precision", message))
    }

    /// How much memory there is for a run.
    pub fn room(&self) -> Room {
        #[cfg(feature = "wgpu")]
        if let Some(room) = adapters::room(self) {
            return room;
        }
        Room::host(&self.name)
    }
}

/// One line of `ember devices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// What `--device` takes.
    pub label: String,
    /// The device's own name, graphics API and shader compiler.
    pub description: String,
    /// `cpu`, `cuda`, `discrete`, `integrated`, `virtual` or `software`.
    pub kind: &'static str,
    /// Whether `--device` can name it.
    pub usable: bool,
    /// Whether `--device auto` takes it.
    pub auto: bool,
}

/// Every device of this build and machine. Opens none of them.
pub fn list() -> Vec<Info> {
    let cpu = |label: &str, description: &str| Info {
        label: label.to_owned(),
        description: description.to_owned(),
        kind: "cpu",
        usable: true,
        auto: false,
    };
    let mut devices = vec![cpu("flex", "processor, through burn-flex")];
    if cfg!(feature = "ndarray") {
        devices.push(cpu("ndarray", "processor, through burn-ndarray (deprecated; small models only)"));
    }
    devices.extend(cuda::list());
    #[cfg(feature = "wgpu")]
    devices.extend(adapters::list().iter().map(adapters::Adapter::info));
    // auto = CUDA, else the first discrete GPU, else flex; never a software renderer.
    let first = |kind: &str| devices.iter().position(|info| info.kind == kind && info.usable);
    let auto = first("cuda").or_else(|| first("discrete")).unwrap_or(0);
    devices[auto].auto = true;
    devices
}

/// The precisions of a device of [`list`]. Opens it, where only the open device tells: of CUDA, and where kernels are compiled to
/// SPIR-V.
///
/// # Errors
/// As [`select`].
pub fn precisions(info: &Info) -> Result<Vec<Precision>, Error> {
    match info.kind == "cuda" || (info.kind != "cpu" && cfg!(feature = "vulkan")) {
        true => Ok(select(&info.label)?.precisions()),
        false => Ok(vec![Precision::F32]),
    }
}

/// The device that `spec` names: `auto`, `flex`, `ndarray`, `wgpu`, `wgpu:N`, `cuda` or `cuda:N`.
///
/// # Errors
/// [`Error::Device`], with everything there is, where the device is not there, not in this build, or cannot be opened.
pub fn select(spec: &str) -> Result<Selected, Error> {
    let cpu = |device: Device| Selected { device, name: spec.to_owned(), label: spec.to_owned() };
    match spec {
        "auto" => auto(),
        "flex" => Ok(cpu(Device::flex())),
        "ndarray" => ndarray().map(cpu).ok_or_else(|| {
            unavailable(spec, "this build has no ndarray: build it with `--features ndarray`, or use flex")
        }),
        "wgpu" => wgpu(spec, 0),
        "cuda" => cuda::open(spec, 0),
        _ => match spec.split_once(':').map(|(kind, index)| (kind, index.parse())) {
            Some(("wgpu", Ok(index))) => wgpu(spec, index),
            Some(("cuda", Ok(index))) => cuda::open(spec, index),
            _ => Err(unavailable(spec, "expected auto, flex, ndarray, wgpu, wgpu:N, cuda or cuda:N")),
        },
    }
}

fn auto() -> Result<Selected, Error> {
    let taken =
        list().into_iter().find(|info| info.auto).map_or_else(|| "flex".to_owned(), |info| info.label);
    select(&taken)
}

#[cfg(feature = "wgpu")]
fn wgpu(spec: &str, index: usize) -> Result<Selected, Error> {
    let Some(adapter) = adapters::list().get(index) else {
        let message = match adapters::list().len() {
            0 => format!(
                "no adapter answers to {}: is a driver installed? (GL is not used)",
                adapters::API_NAMES
            ),
            1 => "there is only wgpu:0".to_owned(),
            count => format!("there are wgpu:0 to wgpu:{}", count - 1),
        };
        return Err(unavailable(spec, message));
    };
    if adapter.kind == "software" {
        tracing::warn!("{} is a software renderer: for tests; flex is the faster CPU device", adapter.name());
    }
    adapter.open(spec)
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(spec: &str, _index: usize) -> Result<Selected, Error> {
    Err(unavailable(spec, "this build has no wgpu: build it with `--features wgpu`"))
}

#[cfg(feature = "ndarray")]
fn ndarray() -> Option<Device> {
    tracing::warn!("ndarray is deprecated and slow on convolutions; flex is the CPU default");
    #[allow(deprecated)] // Kept for comparison; it says so itself.
    Some(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Option<Device> {
    None
}

fn unavailable(spec: &str, message: impl Into<String>) -> Error {
    let line = |info: Info| {
        let auto = if info.auto { ", taken by auto" } else { "" };
        let unusable = if info.usable { "" } else { ", not reachable" };
        format!("{}: {} ({}{unusable}{auto})", info.label, info.description, info.kind)
    };
    Error::Device {
        spec: spec.to_owned(),
        message: message.into(),
        available: list().into_iter().map(line).collect(),
    }
}
