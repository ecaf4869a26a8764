#![no_main]
//! `pumpd::fuzz::configuration`, which may not panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pumpd::fuzz::configuration(bytes));
