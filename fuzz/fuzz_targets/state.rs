#![no_main]
//! `pumpd::fuzz::state`, which may not panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pumpd::fuzz::state(bytes));
