#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("populations").begin(), |bytes: &[u8]| (target("populations").run)(bytes));
