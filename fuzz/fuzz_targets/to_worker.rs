#![no_main]
//! `pumpd::fuzz::to_worker`, which may not panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pumpd::fuzz::to_worker(bytes));
