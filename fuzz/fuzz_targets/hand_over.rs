#![no_main]
//! `pumpd::fuzz::hand_over`, which may not panic.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pumpd::fuzz::hand_over(bytes));
