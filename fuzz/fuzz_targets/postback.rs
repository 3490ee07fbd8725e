//! What affiliate networks fire, by every preset.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postbackd::http::fuzzing::postback(data));
