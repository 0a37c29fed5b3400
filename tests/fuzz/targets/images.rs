#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("images").write_seeds(), |bytes: &[u8]| (target("images").run)(bytes));
