#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("idx").begin(), |bytes: &[u8]| (target("idx").run)(bytes));
