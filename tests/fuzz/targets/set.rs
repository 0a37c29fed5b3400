#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("set").begin(), |bytes: &[u8]| (target("set").run)(bytes));
