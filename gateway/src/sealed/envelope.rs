//! The envelope as YAML.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::OpenError;

/// What the clients write; keys that they may add one day don't count.
#[derive(Deserialize)]
pub(super) struct Envelope {
    pub(super) version: String,
    pub(super) algorithm: String,
    #[serde(default)]
    pub(super) key_id: String,
    pub(super) public_key: String,
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
}

impl Envelope {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        let text = std::str::from_utf8(bytes).map_err(|_| OpenError::Format)?;
        serde_saphyr::from_str(text).map_err(|_| OpenError::Format)
    }
}
