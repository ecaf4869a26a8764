#![no_main]
//! `pumpd::fuzz::control`, which may not panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pumpd::fuzz::control(bytes));
