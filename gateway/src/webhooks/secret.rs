//! What messages are signed with, and how: as Standard Webhooks 1.0 has it, so that its libraries verify them.

use std::{io, path::Path};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// How long one is, bytes: by the specification.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;
/// More than any file with a key or two needs.
const FILE_AT_MOST: u64 = 4096;

/// A symmetric key.
#[derive(Clone)]
pub(super) struct Secret {
    text: String,
    key: hmac::Key,
}

/// Not a secret.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSecret {
    /// Of another form.
    #[error("it must be whsec_ and the standard base64 of 24 to 64 random bytes")]
    Form,
    /// The file with it can't be read.
    #[error(transparent)]
    File(#[from] io::Error),
}

impl Secret {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Form)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| InvalidSecret::Form)?;
        if !LENGTH.contains(&bytes.len()) {
            return Err(InvalidSecret::Form);
        }
        Ok(Self { text: text.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// The keys in a file, a line each.
    pub(super) fn read(path: &Path) -> Result<Vec<Self>, InvalidSecret> {
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(std::fs::File::open(path)?, FILE_AT_MOST), &mut text)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(InvalidSecret::Form) } else { Ok(keys) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The signature of a message that is sent at `timestamp`, seconds since 1970.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_specifications_example_is() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(!format!("{secret:?}").contains("MfKQ"));
    }

    #[test]
    fn secrets_are_long_enough_and_say_what_they_are() {
        for text in ["", "whsec_", "whsec_c2hvcnQ=", "plJ3nmyCDGBKInavdOK15jsl", "whsec_plJ3nmyCDGBKInavdOK15js*"] {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
        assert!(Secret::parse(&format!("whsec_{}", BASE64_STANDARD.encode([1; 65]))).is_err());
    }
}
