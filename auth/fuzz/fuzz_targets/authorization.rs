//! Whatever bytes stand in an `Authorization` header; what must hold is in `claims.rs`.
//!
//! ```sh
//! cargo +nightly fuzz run -s none authorization -- -max_total_time=60 -max_len=16384
//! ```
#![no_main]

#[path = "../claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|value: &[u8]| claims::authorization(value));
