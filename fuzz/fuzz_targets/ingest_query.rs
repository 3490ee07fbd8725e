//! What a pixel or a tracker puts into a URL.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postbackd::http::fuzzing::query(data));
