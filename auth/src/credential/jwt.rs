//! A JWT as it is shown: three parts, each base64url without padding.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A token in the compact form of RFC 7515: `header.payload.signature`, none of them empty.
///
/// The form is all that is known: who made it and for whom, a provider has to find out. An
/// unsigned token (`alg: none`) has an empty third part and is none of these.
#[derive(Clone)]
pub struct JwtToken(SecretString);

impl JwtToken {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let three = parts.by_ref().take(3).filter(|part| is_base64url(part)).count() == 3;
        (three && parts.next().is_none()).then(|| Self(text.into()))
    }

    /// The token. Whoever has it is its owner until it expires.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for JwtToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtToken").finish_non_exhaustive()
    }
}

fn is_base64url(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use crate::Credential;

    fn parse(value: &str) -> Option<String> {
        let Credential::Jwt(token) = Credential::parse(value.as_bytes()).ok()? else { return None };
        Some(token.reveal().to_owned())
    }

    #[test]
    fn bearer_in_any_case_with_three_parts_is_a_token() {
        for value in ["Bearer a.b-_9.c", "bearer a.b-_9.c", " BEARER   a.b-_9.c\t"] {
            assert_eq!(parse(value).as_deref(), Some("a.b-_9.c"), "{value:?}");
        }
    }

    #[test]
    fn every_other_form_is_unusable() {
        for value in [
            "a.b.c",
            "Bearer",
            "Bearer a.b",
            "Bearer a.b.",
            "Bearer .b.c",
            "Bearer a..c",
            "Bearer a.b.c.d",
            "Bearer a.b.c.d.e",
            "Bearer a.b.c more",
            "Bearer a.b.c=",
            "Bearer a.b+.c",
            "Bearer a.b/.c",
            "Bearer a:b",
            "Basic a.b.c",
            "Token a.b.c",
        ] {
            assert!(Credential::parse(value.as_bytes()).is_err(), "{value:?}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_token() {
        let shown = format!("{:?}", Credential::parse(b"Bearer canary.canary.canary").unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
