//! What is said where a device cannot be had, or has no memory left.

use std::path::PathBuf;

use ember_train::device::cuda::{libdevice, no_device, not_opened};
use ember_train::training::faults;

const DRIVER: &str = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:27:51 UTC 2025\nGCC version:  gcc 12.2.0";
const OPEN: &str =
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)";

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[test]
fn libdevice_is_found_or_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (with, without) = (folder.path().join("cuda"), folder.path().join("empty"));
    let file: PathBuf = with.join("nvvm/libdevice/libdevice.10.bc");
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
    std::fs::write(&file, b"BC").expect("a file");
    assert_eq!(libdevice(Some(&with), &[]), Ok(file.clone()));
    assert_eq!(libdevice(None, &[&without, &with]), Ok(file));
    // CUDA_PATH counts alone, as it does for the compiler.
    let error = libdevice(Some(&without), &[&with]).expect_err("it is not there");
    says(
        &error,
        &[
            "CUDA_PATH is",
            "empty",
            "libdevice.10.bc is not in it",
            "pip install nvidia-nvvm",
            "--device wgpu",
        ],
    );
    let error = libdevice(None, &[&without]).expect_err("it is not there");
    says(&error, &["CUDA_PATH is not set", "libdevice.10.bc is in none of", "empty"]);
}

#[test]
fn a_driver_that_is_missing_hidden_or_old_is_named() {
    says(&no_device(None), &["no NVIDIA driver is loaded", "install the driver", "--device flex"]);
    says(&no_device(Some(DRIVER)), &["580.65.06", "libcuda.so.1", "CUDA_VISIBLE_DEVICES", "--device wgpu"]);
    says(&no_device(Some(OPEN)), &["570.86.15"]);
    assert!(!no_device(Some(DRIVER)).contains("too old"));
    let old = DRIVER.replace("580.65.06", "470.256.02");
    says(&no_device(Some(&old)), &["too old", "525 or newer", "update it"]);
    says(
        &not_opened(Some(&old), "CUDA_ERROR_INVALID_PTX"),
        &["CUDA_ERROR_INVALID_PTX", "too old", "nvidia-smi"],
    );
    assert!(!not_opened(Some(DRIVER), "CUDA_ERROR_OUT_OF_MEMORY").contains("too old"));
    says(&no_device(Some("no version here. 12")), &["of unknown version"]);
}

/// Two programs on one card: the second may run out of memory in the middle.
#[test]
fn memory_that_another_program_holds_is_no_fault_of_the_program() {
    let error = faults::of_command(
        "read failed: out of device memory allocating 1073741824 bytes\nBacktrace:\n 0: …",
    );
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    says(&text, &["no memory left", "allocating 1073741824 bytes", "another program", "nvidia-smi"]);
    assert!(!text.contains("Backtrace") && !text.contains("fault of the program"), "{text}");
    says(&faults::of_command("index out of bounds").to_string(), &["a fault of the program"]);
}
