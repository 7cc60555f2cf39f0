//! Sealed build secrets: `com.openfaas.secrets`, an envelope of NaCl boxes for the installation's
//! public key. Opened in memory, for one build.

mod envelope;
mod key;
mod keys;

use std::collections::BTreeMap;

use secrecy::SecretSlice;
use serde::Serialize;

pub use keys::{KeyFileError, SealingKeys, generate};

const VERSION: &str = "v1";
const ALGORITHM: &str = "nacl/box";

/// Secrets by name, erased from memory with the map.
pub type Secrets = BTreeMap<String, SecretSlice<u8>>;

/// What `GET /publickey` answers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PublicKeyInfo {
    /// The beginning of the key, to tell keys apart while they change.
    pub key_id: String,
    /// How to seal.
    pub algorithm: &'static str,
    /// The key, in base64.
    pub public_key: String,
}

/// An envelope can't be opened. Nothing of its content but names is repeated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Not the YAML that was expected.
    #[error("com.openfaas.secrets isn't as expected: version, algorithm, key_id, public_key and secrets")]
    Format,
    /// Another version.
    #[error("com.openfaas.secrets: the version must be v1")]
    Version,
    /// Another algorithm.
    #[error("com.openfaas.secrets: the algorithm must be nacl/box")]
    Algorithm,
    /// The sender's key isn't one.
    #[error("com.openfaas.secrets: public_key is no base64 of 32 bytes")]
    PublicKey,
    /// More than a build has use for.
    #[error("com.openfaas.secrets: a build has 64 secrets at most")]
    TooMany,
    /// Longer than an engine takes.
    #[error("com.openfaas.secrets: {0:?} is longer than 500 KiB")]
    TooLong(String),
    /// Such a name can't be mounted.
    #[error("com.openfaas.secrets: {0:?} can't be a secret's name: 1 to 128 of A-Z a-z 0-9 . _ -, and not . or ..")]
    Name(String),
    /// Nothing that could be a nonce and a box.
    #[error("com.openfaas.secrets: the value of {0:?} is no base64 of a nonce of 24 bytes and a box")]
    Value(String),
    /// Sealed for another key, or damaged.
    #[error(
        "com.openfaas.secrets: {name:?} can't be opened; it was sealed for the key {key_id:?}, and this builder's is {ours:?}"
    )]
    Sealed {
        /// The secret's name.
        name: String,
        /// The key it says it was sealed for.
        key_id: String,
        /// The key that is published.
        ours: String,
    },
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    pub(super) const PRIVATE: &[u8] = b"yWEI5Uge5Xcp1LNgowicpXbVPg21CHq4cd9rCLxHajs=\n";
    const PUBLIC: &str = "yJVNaR+dsI7+HIFerOTUE3raLAhAdClHjVvJrtMqbW0=";
    pub(super) const ENVELOPE: &str = "version: v1
algorithm: nacl/box
key_id: yJVNaR+d
public_key: sgfGwB9IC0Q+bKA4NJUEhmKgbiDVdw9yFSskK1ByXBk=
secrets:
    ca.crt: yO4XsHZ2ee8iVxQvWIgDAukkmMeZ5/4R6uhl55FspPJpptUQSBc2eHxG8iw2XA==
    pip_token: aHVRA2TI22AOe0ywB/ypFGOmgRzZvx5SDPFfkomP8AhmouDnKqzahZfc1yTDAw==
";

    fn keys() -> SealingKeys {
        SealingKeys::parse(PRIVATE).unwrap()
    }

    #[test]
    fn what_faas_cli_sealed_is_opened() {
        let secrets = keys().open(ENVELOPE.as_bytes()).unwrap();
        let plain: Vec<_> = secrets.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(plain, [("ca.crt", &b"s3cr3t"[..]), ("pip_token", b"s3cr3t")]);
    }

    #[test]
    fn the_public_key_is_told_with_its_id() {
        let public = serde_json::to_string(&keys().public()).unwrap();
        assert_eq!(public, format!(r#"{{"key_id":"yJVNaR+d","algorithm":"nacl/box","public_key":"{PUBLIC}"}}"#));
        assert!(!format!("{:?}", keys()).contains("yWEI"));
    }

    #[test]
    fn an_envelope_that_is_none_says_why() {
        let name = |name: &str| name.to_owned();
        let sealed = OpenError::Sealed { name: name("ca.crt"), key_id: name("yJVNaR+d"), ours: name("yJVNaR+d") };
        let first = "yO4XsHZ2ee8iVxQvWIgDAukkmMeZ5/4R6uhl55FspPJpptUQSBc2eHxG8iw2XA==";
        let many: String = (0..65).map(|n| format!("    s{n}: AAAA\n")).collect();
        let long = "A".repeat(4 * 200 * 1024);
        for (from, to, expected) in [
            ("version: v1", "version: v2", OpenError::Version),
            ("nacl/box", "nacl/secretbox", OpenError::Algorithm),
            ("version: v1\n", "", OpenError::Format),
            ("secrets:", "secrets: [", OpenError::Format),
            ("secrets:\n", "secrets:\n    - x\n", OpenError::Format),
            ("sgfGwB9I", "", OpenError::PublicKey),
            ("sgfGwB9I", "----", OpenError::PublicKey),
            ("sgfGwB9I", "AAAAAAAA", sealed.clone()),
            ("yO4X", "AAAA", sealed.clone()),
            (first, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", sealed),
            (first, "AAAA", OpenError::Value(name("ca.crt"))),
            (first, "no base64", OpenError::Value(name("ca.crt"))),
            ("ca.crt", "../ca", OpenError::Name(name("../ca"))),
            ("ca.crt", "..", OpenError::Name(name(".."))),
            ("ca.crt", "a b", OpenError::Name(name("a b"))),
            ("    ca.crt", &format!("{many}    ca.crt"), OpenError::TooMany),
            ("yO4X", &long, OpenError::TooLong(name("ca.crt"))),
        ] {
            let envelope = ENVELOPE.replacen(from, to, 1);
            assert_eq!(keys().open(envelope.as_bytes()).unwrap_err(), expected, "{from:?} -> {:.40?}", to);
        }
        assert_eq!(keys().open(b"\xff").unwrap_err(), OpenError::Format);
    }

    #[test]
    fn an_envelope_without_secrets_has_none() {
        let (head, _) = ENVELOPE.split_once("    ca.crt").unwrap();
        assert!(keys().open(head.replace("secrets:", "secrets: {}").as_bytes()).unwrap().is_empty());
    }
}
