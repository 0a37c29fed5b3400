#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("tar").begin(), |bytes: &[u8]| (target("tar").run)(bytes));
