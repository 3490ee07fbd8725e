//! Rows as a damaged file may hold them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postbackd::store::fuzzing::rows(data));
