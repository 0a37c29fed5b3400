#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("checkpoint").write_seeds(), |bytes: &[u8]| (target("checkpoint").run)(bytes));
