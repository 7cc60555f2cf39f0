//! What holds for any input: for the fuzzer, and for `tests/claims.rs`, which every compiler can build.

use kiln_auth::Credential;
use secrecy::ExposeSecret as _;

/// The longest header that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// Whatever bytes stand in an `Authorization` header: no panic, nothing that isn't ASCII, and what was
/// taken is taken again as the same. Says whether it was taken.
pub(crate) fn authorization(value: &[u8]) -> bool {
    let Ok(credential) = Credential::parse(value) else { return false };
    assert!(value.is_ascii() && value.len() <= LONGEST);
    let Some(text) = written(&credential) else { return true };
    // Quoting makes it three times as long, and so perhaps longer than is looked at.
    if text.len() <= LONGEST {
        let again = Credential::parse(text.as_bytes()).expect("what was taken is taken again");
        assert_eq!(written(&again), Some(text));
    }
    true
}

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
