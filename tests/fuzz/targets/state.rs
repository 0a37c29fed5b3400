#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("state").begin(), |bytes: &[u8]| (target("state").run)(bytes));
