#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("config").begin(), |bytes: &[u8]| (target("config").run)(bytes));
