#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("weights").begin(), |bytes: &[u8]| (target("weights").run)(bytes));
