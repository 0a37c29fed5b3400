#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("report").begin(), |bytes: &[u8]| (target("report").run)(bytes));
