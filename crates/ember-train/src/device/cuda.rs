//! CUDA devices, in a program with the feature `cuda`; and what a machine needs for them, each thing that is missing by its name.
//!
//! | needed | where |
//! |---|---|
//! | a driver that is loaded, and its `libcuda.so.1` | the NVIDIA driver's package |
//! | `nvvm/libdevice/libdevice.10.bc` below `CUDA_PATH`, or below one of [`ROOTS`] | a CUDA toolkit, or the wheel `nvidia-nvvm` |
//!
//! Nothing else of a toolkit: kernels are compiled to PTX in the program and by the driver from there.

use std::path::{Path, PathBuf};

use super::{Info, Selected, unavailable};
use crate::error::Error;

/// Where the kernel compiler looks for a toolkit if `CUDA_PATH` is not set.
pub const ROOTS: [&str; 4] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"];
/// The library of exp, log and the like that kernels are linked with, in a toolkit.
const LIBDEVICE: &str = "nvvm/libdevice/libdevice.10.bc";
/// The first driver of CUDA 12, whose interface the program asks for.
const FIRST_DRIVER: u32 = 525;

/// The file that kernels are linked with: in `cuda_path` (the variable `CUDA_PATH`) where that is set, else in the first of `roots`
/// that has it.
///
/// # Errors
/// What is missing, and what to do.
pub fn libdevice(cuda_path: Option<&Path>, roots: &[&Path]) -> Result<PathBuf, String> {
    let roots = cuda_path.map_or_else(|| roots.to_vec(), |path| vec![path]);
    let found = roots.iter().map(|root| root.join(LIBDEVICE)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let looked: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        let looked = match cuda_path {
            Some(path) => format!("CUDA_PATH is {}, and {LIBDEVICE} is not in it", path.display()),
            None => format!("CUDA_PATH is not set, and {LIBDEVICE} is in none of {}", looked.join(", ")),
        };
        format!(
            "libdevice is missing, which kernels take exp and log from: {looked}. Set CUDA_PATH to a CUDA toolkit, or to the folder \
             that holds nvvm/ of the Python package nvidia-nvvm (`pip install nvidia-nvvm`); or take --device wgpu"
        )
    })
}

/// Why there is no device. `driver`: the text of /proc/driver/nvidia/version, where there is one.
pub fn no_device(driver: Option<&str>) -> String {
    match driver {
        None => "no NVIDIA driver is loaded (there is no /proc/driver/nvidia/version): install the driver, or load it with \
                 `modprobe nvidia`; or take --device flex"
            .to_owned(),
        Some(text) => format!(
            "the NVIDIA driver {} is loaded, but CUDA finds no device. Either libcuda.so.1 of that driver is not where programs look \
             for libraries (see `ldconfig -p`, LD_LIBRARY_PATH; containers need the driver's libraries too), or CUDA_VISIBLE_DEVICES \
             hides the card{}. Or take --device wgpu",
            version(text).unwrap_or("of unknown version"),
            too_old(text)
        ),
    }
}

/// Why a device that is there could not be opened.
pub fn not_opened(driver: Option<&str>, message: &str) -> String {
    let driver = driver.map(too_old).unwrap_or_default();
    format!(
        "it cannot be opened: {message}{driver}. A card whose memory other programs hold cannot be opened either: see `nvidia-smi`"
    )
}

/// `, or the driver is too old …` where it is.
fn too_old(text: &str) -> String {
    match version(text).and_then(|version| version.split('.').next()?.parse::<u32>().ok()) {
        Some(major) if major < FIRST_DRIVER => {
            format!(", or the driver is too old: {FIRST_DRIVER} or newer is expected (CUDA 12), update it")
        }
        _ => String::new(),
    }
}

/// The first word of the text that is a version, such as 580.65.06.
fn version(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| {
        word.contains('.')
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Every CUDA device, as far as the driver is asked; opens none.
pub(super) fn list() -> Vec<Info> {
    let usable = here::libdevice().is_ok();
    let info = |index: usize| Info {
        label: format!("cuda:{index}"),
        description: describe(here::driver().as_deref(), usable),
        kind: "cuda",
        usable,
        auto: false,
    };
    (0..here::count()).map(info).collect()
}

fn describe(driver: Option<&str>, usable: bool) -> String {
    let driver = driver.and_then(version).map(|version| format!(", driver {version}")).unwrap_or_default();
    let missing = if usable { "" } else { ", libdevice is missing" };
    format!("NVIDIA card{driver}, cuda, ptx{missing}")
}

/// The device `cuda:index`.
pub(super) fn open(spec: &str, index: usize) -> Result<Selected, Error> {
    if !cfg!(feature = "cuda") {
        let message = "this program is built without CUDA: build it with `--features cuda` (scripts/cuda_build.sh), or take wgpu, \
                       which reaches NVIDIA cards through Vulkan";
        return Err(unavailable(spec, message));
    }
    let count = here::count();
    if count == 0 {
        return Err(unavailable(spec, no_device(here::driver().as_deref())));
    }
    if index >= count {
        let there =
            if count == 1 { "only cuda:0".to_owned() } else { format!("cuda:0 to cuda:{}", count - 1) };
        return Err(unavailable(spec, format!("there is {there} (CUDA_VISIBLE_DEVICES may hide others)")));
    }
    here::libdevice().map_err(|message| unavailable(spec, message))?;
    here::opened(index).map_err(|message| unavailable(spec, not_opened(here::driver().as_deref(), &message)))
}

/// This machine.
mod here {
    use std::path::{Path, PathBuf};

    use crate::device::Selected;

    pub(super) fn libdevice() -> Result<PathBuf, String> {
        let path = std::env::var_os("CUDA_PATH").map(PathBuf::from);
        super::libdevice(path.as_deref(), &super::ROOTS.map(Path::new))
    }

    pub(super) fn driver() -> Option<String> {
        std::fs::read_to_string("/proc/driver/nvidia/version").ok()
    }

    #[cfg(feature = "cuda")]
    pub(super) fn count() -> usize {
        // One by one: a list of devices would ask wgpu for its own as well. A driver that is unwell may panic.
        let is_there = |index: &usize| burn::backend::CubeDevice::cuda(*index).is_ok();
        crate::device::panics::caught(|| (0..64).take_while(is_there).count()).unwrap_or(0)
    }

    #[cfg(not(feature = "cuda"))]
    pub(super) fn count() -> usize {
        0
    }

    /// Opens the device and lets it answer once.
    #[cfg(feature = "cuda")]
    pub(super) fn opened(index: usize) -> Result<Selected, String> {
        use burn::tensor::Device;

        let label = format!("cuda:{index}");
        let device = Device::cuda(index);
        match crate::device::panics::caught(|| device.sync()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(crate::device::panics::summary(&error.to_string())),
            Err(panic) => return Err(crate::device::panics::summary(&panic)),
        }
        let title = device.identity().map_or_else(|| "NVIDIA card".to_owned(), |identity| identity.name);
        Ok(Selected { device, name: format!("{label} ({title}, cuda, ptx)"), label })
    }

    #[cfg(not(feature = "cuda"))]
    pub(super) fn opened(_index: usize) -> Result<Selected, String> {
        Err("this program is built without CUDA".to_owned())
    }
}
