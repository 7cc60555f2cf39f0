//! How a key is kept: salted and hashed, so that the file gives no credential away.

use aws_lc_rs::{error::Unspecified, hmac, rand};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq;

const SCHEME: &str = "hmac-sha256";
const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

/// A key's salted hash, `hmac-sha256:<salt>:<digest>` in text.
///
/// One round of SHA-256 suffices, where a password would need argon2: a slow hash makes guessing
/// dear, and a key of 64 random characters (381 bits) can't be guessed at any price. Keys that
/// people bring along are held against the same measure when they are added. A slow hash would
/// also give whoever sends bad tokens a way to keep the gateway busy.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct KeyHash {
    salt: [u8; SALT_BYTES],
    /// The salt as the hash takes it: made ready once, for it is asked for with every request.
    salted: hmac::Key,
    digest: [u8; DIGEST_BYTES],
}

/// The text is no hash of a key.
#[derive(Debug, thiserror::Error)]
#[error("a key's hash is {SCHEME}:<salt>:<digest>")]
pub(super) struct InvalidKeyHash(());

impl KeyHash {
    /// Hashes a key with a new salt.
    pub(super) fn of(key: &SecretString) -> Result<Self, Unspecified> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt)?;
        let unhashed = Self::new(salt, [0; DIGEST_BYTES]);
        Ok(Self { digest: unhashed.hash(key), ..unhashed })
    }

    /// A hash to compare with when there is no user; no key is known that has it.
    pub(super) fn nobodys() -> Self {
        Self::new([0; SALT_BYTES], [0; DIGEST_BYTES])
    }

    fn new(salt: [u8; SALT_BYTES], digest: [u8; DIGEST_BYTES]) -> Self {
        Self { salt, salted: hmac::Key::new(hmac::HMAC_SHA256, &salt), digest }
    }

    /// Whether it is this key's, in constant time.
    pub(super) fn is_of(&self, key: &SecretString) -> bool {
        self.hash(key).ct_eq(&self.digest).into()
    }

    fn hash(&self, key: &SecretString) -> [u8; DIGEST_BYTES] {
        let tag = hmac::sign(&self.salted, key.expose_secret().as_bytes());
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(tag.as_ref());
        digest
    }

    /// As it stands in the file.
    pub(super) fn to_text(&self) -> String {
        format!("{SCHEME}:{}:{}", BASE64.encode(self.salt), BASE64.encode(self.digest))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = InvalidKeyHash;

    fn try_from(text: String) -> Result<Self, InvalidKeyHash> {
        let invalid = InvalidKeyHash(());
        let mut parts = text.split(':');
        let (Some(SCHEME), Some(salt), Some(digest), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid);
        };
        match (decode(salt), decode(digest)) {
            (Some(salt), Some(digest)) => Ok(Self::new(salt, digest)),
            _ => Err(invalid),
        }
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hashed_key_matches_and_text_keeps_the_hash() {
        let key = SecretString::from("k".repeat(64));
        let hash = KeyHash::try_from(KeyHash::of(&key).unwrap().to_text()).unwrap();
        assert!(hash.is_of(&key));
        assert!(!hash.is_of(&"k".repeat(63).into()));
        assert!(!KeyHash::nobodys().is_of(&key));
        assert_ne!(hash.to_text(), KeyHash::of(&key).unwrap().to_text());
    }

    #[test]
    fn other_texts_are_no_hashes() {
        let good = KeyHash::nobodys().to_text();
        for text in
            ["", "hmac-sha256", "hmac-sha256:", "hmac-sha256:AAAA:AAAA", &format!("{good}:"), &good.replace("256", "1")]
        {
            assert!(KeyHash::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
