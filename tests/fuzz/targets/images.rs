#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("images").begin(), |bytes: &[u8]| (target("images").run)(bytes));
