//! Whether the keys for OpenFaaS's build secrets are there, and nobody else's to read.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::{Finding, bad, good, warning};
use crate::{
    sealed::{PublicKeyInfo, SealingKeys},
    serve::causes,
};

const PART: &str = "build secrets";

/// What is to be said of the file; nothing where none is named.
pub(super) fn keys(file: Option<&Path>) -> Option<Finding> {
    let file = file?;
    let keys = match SealingKeys::read(file) {
        Ok(keys) => keys,
        Err(error) => {
            let (file, error) = (file.display(), causes(&error));
            let text = format!("openfaas.build_secrets_key_file {file}: {error}; kiln openfaas keygen makes one");
            return Some(bad(PART, text));
        }
    };
    let mode = std::fs::metadata(file).map_or(0, |file| file.permissions().mode());
    let PublicKeyInfo { key_id, .. } = keys.public();
    Some(if mode & 0o004 == 0 {
        good(PART, format!("callers seal for the key {key_id}"))
    } else {
        warning(PART, format!("everybody on this machine may read {}: chmod 600", file.display()))
    })
}
