//! The GPUs and software renderers that wgpu finds.

use std::sync::{Mutex, OnceLock};

use burn::backend::DispatchDevice;
use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::wgpu::wgpu::{self, Backend, DeviceType};
use burn::tensor::{Device, DeviceKind};

use super::{Info, Selected, unavailable};
use crate::error::Error;
use crate::memory::Room;

/// The graphics APIs that compute is done on, best first; never GL.
const APIS: &[(Backend, WgpuBackend)] = if cfg!(target_os = "macos") {
    &[(Backend::Metal, WgpuBackend::Metal)]
} else if cfg!(target_os = "windows") {
    &[(Backend::Vulkan, WgpuBackend::Vulkan), (Backend::Dx12, WgpuBackend::Dx12)]
} else {
    &[(Backend::Vulkan, WgpuBackend::Vulkan)]
};

/// [`APIS`] for people.
pub(super) const API_NAMES: &str = if cfg!(target_os = "macos") {
    "Metal"
} else if cfg!(target_os = "windows") {
    "Vulkan or Direct3D 12"
} else {
    "Vulkan"
};

/// The memory of an adapter that is open; `None` for any other device.
pub(super) fn room(selected: &Selected) -> Option<Room> {
    let DispatchDevice::Cube(device) = selected.device.as_dispatch() else { return None };
    let memory = device.client().properties().memory.clone();
    let kind = list().iter().find(|adapter| adapter.label == selected.label).map(|adapter| adapter.kind);
    Some(Room {
        largest: Some(memory.max_page_size),
        // Known where kernels are compiled to SPIR-V.
        on_device: memory.max_memory(),
        shared: matches!(kind, Some("software" | "integrated")),
        ..Room::host(&selected.name)
    })
}

/// The kinds in the order in which they are numbered.
const KINDS: &[(DeviceType, &str)] = &[
    (DeviceType::DiscreteGpu, "discrete"),
    (DeviceType::IntegratedGpu, "integrated"),
    (DeviceType::VirtualGpu, "virtual"),
    (DeviceType::Cpu, "software"),
];

/// A runtime is brought up once in a process: a second `select` of the same adapter gets the first one's device.
static OPENED: Mutex<Vec<(String, Device)>> = Mutex::new(Vec::new());

/// An adapter that burn can address.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    label: String,
    /// The adapter's own name.
    title: String,
    /// One of [`KINDS`].
    pub(super) kind: &'static str,
    api: WgpuBackend,
    selector: DeviceKind,
}

/// Asked for once in a process: the Vulkan loader crashes when instances come and go on several threads.
static FOUND: OnceLock<Vec<Adapter>> = OnceLock::new();

/// The adapters of the first API that has any, in the order of their numbers. Opens none of them.
pub(super) fn list() -> &'static [Adapter] {
    FOUND.get_or_init(|| {
        let found = APIS.iter().map(|&(backend, api)| list_on(backend, api));
        found.into_iter().find(|adapters| !adapters.is_empty()).unwrap_or_default()
    })
}

fn list_on(backend: Backend, api: WgpuBackend) -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found: Vec<wgpu::AdapterInfo> =
        ready(instance.enumerate_adapters(backend.into())).iter().map(wgpu::Adapter::get_info).collect();
    let mut adapters = Vec::new();
    for &(device_type, kind) in KINDS {
        // burn counts each kind from 0, in wgpu's order, and knows one software renderer only.
        let most = if device_type == DeviceType::Cpu { 1 } else { usize::MAX };
        let of_kind = found.iter().filter(|info| info.device_type == device_type).take(most);
        for (index, info) in of_kind.enumerate() {
            adapters.push(Adapter {
                label: format!("wgpu:{}", adapters.len()),
                title: info.name.trim().to_owned(),
                kind,
                api,
                selector: selector(device_type, index),
            });
        }
    }
    adapters
}

fn selector(device_type: DeviceType, index: usize) -> DeviceKind {
    match device_type {
        DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(index),
        DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(index),
        DeviceType::VirtualGpu => DeviceKind::VirtualGpu(index),
        _ => DeviceKind::Cpu,
    }
}

/// The value of a future that is never pending: wgpu's are, outside of browsers.
fn ready<T>(future: impl Future<Output = Vec<T>>) -> Vec<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(values) => values,
        std::task::Poll::Pending => Vec::new(),
    }
}

impl Adapter {
    /// `wgpu:0 (NVIDIA H200, discrete, vulkan, wgsl)`.
    pub(super) fn name(&self) -> String {
        format!("{} ({}, {}, {}, {})", self.label, self.title, self.kind, self.api_name(), self.compiler())
    }

    /// The line of `ember devices`.
    pub(super) fn info(&self) -> Info {
        Info {
            label: self.label.clone(),
            description: format!("{}, {}, {}", self.title, self.api_name(), self.compiler()),
            kind: self.kind,
            usable: true,
            auto: false,
        }
    }

    fn api_name(&self) -> &'static str {
        match self.api {
            WgpuBackend::Vulkan => "vulkan",
            WgpuBackend::Metal => "metal",
            WgpuBackend::Dx12 => "dx12",
            _ => "other",
        }
    }

    /// What kernels are compiled to: with the feature `vulkan`, every Vulkan device gets SPIR-V.
    fn compiler(&self) -> &'static str {
        match self.api {
            WgpuBackend::Vulkan if cfg!(feature = "vulkan") => "spirv",
            _ => "wgsl",
        }
    }

    /// Opens the adapter with its graphics API pinned.
    pub(super) fn open(&self, spec: &str) -> Result<Selected, Error> {
        let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = opened.iter().find(|(label, _)| *label == self.label);
        let device = match known {
            Some((_, device)) => device.clone(),
            None => {
                let device = Device::wgpu_options()
                    .device_kind(self.selector.clone())
                    .graphics_api(self.api)
                    .init()
                    .map_err(|error| {
                        unavailable(spec, format!("{} cannot be opened: {error}", self.name()))
                    })?;
                opened.push((self.label.clone(), device.clone()));
                device
            }
        };
        Ok(Selected { device, name: self.name(), label: self.label.clone() })
    }
}
