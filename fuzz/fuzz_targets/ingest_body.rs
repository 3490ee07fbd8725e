//! What senders post, as JSON and as NDJSON.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postbackd::http::fuzzing::body(data));
