//! Whatever bytes stand in an `Authorization` header: no panic, nothing that isn't ASCII, and what was
//! taken is taken again as the same.
//!
//! ```sh
//! cargo +nightly fuzz run -s none authorization -- -max_total_time=60 -max_len=16384
//! ```
#![no_main]

use kiln_auth::Credential;
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;

/// The credential as its owner would write it.
fn written(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Wsk(token) => {
            let quoted = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            Some(format!("{}:{}", quoted(token.uuid()), quoted(token.key().expose_secret())))
        }
        Credential::Jwt(token) => Some(format!("Bearer {}", token.reveal())),
        _ => None,
    }
}

fuzz_target!(|value: &[u8]| {
    let Ok(credential) = Credential::parse(value) else { return };
    assert!(value.is_ascii() && value.len() <= 8 * 1024);
    let Some(text) = written(&credential) else { return };
    // Quoting makes it three times as long, and so perhaps longer than is looked at.
    if text.len() <= 8 * 1024 {
        let again = Credential::parse(text.as_bytes()).expect("what was taken is taken again");
        assert_eq!(written(&again), Some(text));
    }
});
