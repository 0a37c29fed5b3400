#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("checkpoint").begin(), |bytes: &[u8]| (target("checkpoint").run)(bytes));
