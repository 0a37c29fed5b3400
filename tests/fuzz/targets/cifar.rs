#![no_main]

use ember_tests::fuzzed::target;

libfuzzer_sys::fuzz_target!(init: target("cifar").begin(), |bytes: &[u8]| (target("cifar").run)(bytes));
