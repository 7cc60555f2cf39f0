//! Sealed build secrets: `com.openfaas.secrets`, an envelope of NaCl boxes for the installation's
//! public key. Opened in memory, for one build.

mod envelope;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead as _};
use secrecy::{SecretSlice, zeroize::Zeroizing};
use serde::Serialize;

use self::envelope::Envelope;

const VERSION: &str = "v1";
const ALGORITHM: &str = "nacl/box";
/// How much of the base64 of a public key is its id.
const KEY_ID: usize = 8;
const NONCE: usize = 24;

/// The most secrets of one build, and of one the longest value and name, in bytes. The daemon takes
/// no value of more than 500 KiB.
const MOST: usize = 64;
const LONGEST: usize = 500 * 1024;
const LONGEST_NAME: usize = 128;

/// The installation's key, which opens envelopes.
pub struct SealingKey(SecretKey);

/// What `GET /publickey` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PublicKeyInfo {
    /// The beginning of the key, to tell keys apart while they change.
    pub key_id: String,
    /// How to seal.
    pub algorithm: &'static str,
    /// The key, in base64.
    pub public_key: String,
}

/// The file holds no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the build secrets' private key is no base64 of 32 bytes")]
pub struct InvalidKey;

/// An envelope can't be opened. Nothing of its content is repeated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Not the YAML that was expected.
    #[error("com.openfaas.secrets isn't as expected: version, algorithm, key_id, public_key and secrets")]
    Format,
    /// Another version or algorithm.
    #[error("com.openfaas.secrets must be of version v1 and algorithm nacl/box")]
    Unsupported,
    /// The sender's key isn't one.
    #[error("com.openfaas.secrets: public_key is no base64 of 32 bytes")]
    PublicKey,
    /// More than a build has use for.
    #[error("com.openfaas.secrets: a build has at most 64 secrets of 500 KiB at most")]
    TooMuch,
    /// Such a name can't be mounted.
    #[error("com.openfaas.secrets: {0:?} can't be a secret's name: 1 to 128 of A-Z a-z 0-9 . _ -, and not . or ..")]
    Name(String),
    /// Sealed for another key, or damaged.
    #[error(
        "com.openfaas.secrets: {name:?} can't be opened; it was sealed for the key {key_id:?}, and this builder's is {ours:?}"
    )]
    Sealed {
        /// The secret's name.
        name: String,
        /// The key it says it was sealed for.
        key_id: String,
        /// The key there is.
        ours: String,
    },
}

impl SealingKey {
    /// Reads a key file: base64, whitespace around it ignored.
    ///
    /// # Errors
    /// When it holds no key.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim_ascii()).map_err(|_| InvalidKey)?);
        SecretKey::from_slice(&bytes).map(Self).map_err(|_| InvalidKey)
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKeyInfo {
        let public_key = STANDARD.encode(self.0.public_key().as_bytes());
        PublicKeyInfo { key_id: public_key.chars().take(KEY_ID).collect(), algorithm: ALGORITHM, public_key }
    }

    /// Opens an envelope: the secrets by name.
    ///
    /// `key_id` isn't checked, as in the real ones: which key fits is for the boxes to say.
    ///
    /// # Errors
    /// When it isn't one, or any of its boxes can't be opened.
    pub fn open(&self, envelope: &[u8]) -> Result<BTreeMap<String, SecretSlice<u8>>, OpenError> {
        let envelope = Envelope::parse(envelope)?;
        if envelope.version != VERSION || envelope.algorithm != ALGORITHM {
            return Err(OpenError::Unsupported);
        }
        let sender = STANDARD.decode(&envelope.public_key).map_err(|_| OpenError::PublicKey)?;
        let sender = PublicKey::from_slice(&sender).map_err(|_| OpenError::PublicKey)?;
        let opener = SalsaBox::new(&sender, &self.0);
        if envelope.secrets.len() > MOST {
            return Err(OpenError::TooMuch);
        }
        let open = |(name, sealed): (String, String)| {
            if !is_name(&name) {
                return Err(OpenError::Name(name.chars().take(LONGEST_NAME).collect()));
            }
            if sealed.len() / 4 * 3 > LONGEST + NONCE + 16 {
                return Err(OpenError::TooMuch);
            }
            match STANDARD.decode(sealed).ok().and_then(|sealed| unseal(&opener, &sealed)) {
                Some(value) => Ok((name, value)),
                None => {
                    let key_id = envelope.key_id.chars().take(KEY_ID).collect();
                    Err(OpenError::Sealed { name, key_id, ours: self.public().key_id })
                }
            }
        };
        envelope.secrets.into_iter().map(open).collect()
    }
}

/// The key goes with it: `SecretKey` erases itself.
impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SealingKey").field(&self.public().key_id).finish()
    }
}

/// A nonce and a box.
fn unseal(opener: &SalsaBox, sealed: &[u8]) -> Option<SecretSlice<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
    opener.decrypt(nonce.into(), sealed).ok().map(SecretSlice::from)
}

/// A mounted secret is a file below `/run/secrets`, by this name where the step gives no other.
fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    letters && (1..=LONGEST_NAME).contains(&name.len()) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const PRIVATE: &[u8] = b"yWEI5Uge5Xcp1LNgowicpXbVPg21CHq4cd9rCLxHajs=\n";
    const PUBLIC: &str = "yJVNaR+dsI7+HIFerOTUE3raLAhAdClHjVvJrtMqbW0=";
    const ENVELOPE: &str = "version: v1
algorithm: nacl/box
key_id: yJVNaR+d
public_key: sgfGwB9IC0Q+bKA4NJUEhmKgbiDVdw9yFSskK1ByXBk=
secrets:
    ca.crt: yO4XsHZ2ee8iVxQvWIgDAukkmMeZ5/4R6uhl55FspPJpptUQSBc2eHxG8iw2XA==
    pip_token: aHVRA2TI22AOe0ywB/ypFGOmgRzZvx5SDPFfkomP8AhmouDnKqzahZfc1yTDAw==
";

    fn key() -> SealingKey {
        SealingKey::parse(PRIVATE).unwrap()
    }

    #[test]
    fn what_faas_cli_sealed_is_opened() {
        let secrets = key().open(ENVELOPE.as_bytes()).unwrap();
        let plain: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(plain, [("ca.crt", &b"s3cr3t"[..]), ("pip_token", b"s3cr3t")]);
    }

    #[test]
    fn the_public_key_is_told_with_its_id() {
        let public = serde_json::to_string(&key().public()).unwrap();
        assert_eq!(public, format!(r#"{{"key_id":"yJVNaR+d","algorithm":"nacl/box","public_key":"{PUBLIC}"}}"#));
        assert!(!format!("{:?}", key()).contains("yWEI"));
        for text in [&b""[..], b"short", b"AAAA", b"!"] {
            assert_eq!(SealingKey::parse(text).unwrap_err(), InvalidKey);
        }
    }

    #[test]
    fn an_envelope_that_is_none_says_why() {
        let sealed = |name: &str| OpenError::Sealed {
            name: name.to_owned(),
            key_id: "yJVNaR+d".to_owned(),
            ours: "yJVNaR+d".to_owned(),
        };
        let many: String = (0..65).map(|n| format!("    s{n}: AAAA\n")).collect();
        let long = "A".repeat(4 * 200 * 1024);
        for (from, to, expected) in [
            ("version: v1", "version: v2", OpenError::Unsupported),
            ("nacl/box", "nacl/secretbox", OpenError::Unsupported),
            ("version: v1\n", "", OpenError::Format),
            ("secrets:", "secrets: [", OpenError::Format),
            ("secrets:\n", "secrets:\n    - x\n", OpenError::Format),
            ("sgfGwB9I", "", OpenError::PublicKey),
            ("sgfGwB9I", "----", OpenError::PublicKey),
            ("sgfGwB9I", "AAAAAAAA", sealed("ca.crt")),
            ("yO4X", "AAAA", sealed("ca.crt")),
            ("yO4XsHZ2ee8iVxQvWIgDAukkmMeZ5/4R6uhl55FspPJpptUQSBc2eHxG8iw2XA==", "AAAA", sealed("ca.crt")),
            ("ca.crt", "../ca", OpenError::Name("../ca".to_owned())),
            ("ca.crt", "..", OpenError::Name("..".to_owned())),
            ("ca.crt", "a b", OpenError::Name("a b".to_owned())),
            ("    ca.crt", &format!("{many}    ca.crt"), OpenError::TooMuch),
            ("yO4X", &long, OpenError::TooMuch),
        ] {
            let envelope = ENVELOPE.replacen(from, to, 1);
            assert_eq!(key().open(envelope.as_bytes()).unwrap_err(), expected, "{from:?} -> {:.40?}", to);
        }
        assert_eq!(key().open(b"\xff").unwrap_err(), OpenError::Format);
    }

    #[test]
    fn an_envelope_without_secrets_has_none() {
        let (head, _) = ENVELOPE.split_once("    ca.crt").unwrap();
        assert!(key().open(head.replace("secrets:", "secrets: {}").as_bytes()).unwrap().is_empty());
    }
}
