//! The envelope as YAML, and what of it must be as it must.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_box::PublicKey;
use serde::Deserialize;

use super::{ALGORITHM, OpenError, VERSION};

const NONCE: usize = 24;
/// What a box is longer than its text.
const TAG: usize = 16;

/// The most secrets of one build, and of one the longest value and name, in bytes. The daemon takes
/// no value of more than 500 KiB.
const MOST: usize = 64;
const LONGEST: usize = 500 * 1024;
const LONGEST_NAME: usize = 128;
/// How much of a key id an error repeats, in characters.
const SHOWN: usize = 8;

/// What the clients write; keys that they may add one day don't count.
#[derive(Deserialize)]
struct Fields {
    version: String,
    algorithm: String,
    #[serde(default)]
    key_id: String,
    public_key: String,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
}

/// An envelope, still closed.
#[derive(Debug)]
pub(super) struct Envelope {
    /// The key it says it was sealed for.
    pub(super) key_id: String,
    pub(super) sender: PublicKey,
    pub(super) secrets: Vec<Sealed>,
}

/// One secret, still closed.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) name: String,
    pub(super) nonce: [u8; NONCE],
    pub(super) text: Vec<u8>,
}

impl Envelope {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let text = std::str::from_utf8(bytes).map_err(|_| OpenError::Format)?;
        let fields: Fields = serde_saphyr::from_str(text).map_err(|_| OpenError::Format)?;
        if fields.version != VERSION {
            return Err(OpenError::Version);
        }
        if fields.algorithm != ALGORITHM {
            return Err(OpenError::Algorithm);
        }
        let sender = STANDARD.decode(&fields.public_key).map_err(|_| OpenError::PublicKey)?;
        let sender = PublicKey::from_slice(&sender).map_err(|_| OpenError::PublicKey)?;
        if fields.secrets.len() > MOST {
            return Err(OpenError::TooMany);
        }
        let secrets = fields.secrets.into_iter().map(Sealed::parse).collect::<Result<_, _>>()?;
        Ok(Self { key_id: fields.key_id.chars().take(SHOWN).collect(), sender, secrets })
    }
}

impl Sealed {
    fn parse((name, value): (String, String)) -> Result<Self, OpenError> {
        if !is_name(&name) {
            return Err(OpenError::Name(name.chars().take(LONGEST_NAME).collect()));
        }
        if value.len() / 4 * 3 > LONGEST + NONCE + TAG + 2 {
            return Err(OpenError::TooLong(name));
        }
        let Ok(bytes) = STANDARD.decode(value) else { return Err(OpenError::Value(name)) };
        match bytes.split_first_chunk() {
            Some((nonce, text)) if text.len() <= LONGEST + TAG => Ok(Self { name, nonce: *nonce, text: text.to_vec() }),
            Some(_) => Err(OpenError::TooLong(name)),
            None => Err(OpenError::Value(name)),
        }
    }
}

/// A mounted secret is a file below `/run/secrets`, by this name where the step gives no other.
fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    letters && (1..=LONGEST_NAME).contains(&name.len()) && !matches!(name, "." | "..")
}
