#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("npz").begin(), |bytes: &[u8]| (target("npz").run)(bytes));
