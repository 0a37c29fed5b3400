#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("safetensors").begin(), |bytes: &[u8]| (target("safetensors").run)(bytes));
