#![no_main]
//! `pumpd::fuzz::from_worker`, which may not panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pumpd::fuzz::from_worker(bytes));
