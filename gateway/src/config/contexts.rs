//! `[contexts]`: folders with a Dockerfile that callers of the native API send to be built.

use serde::Deserialize;

use crate::archive::Limits;

/// How much such a folder may be, and all that an owner has waiting.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contexts {
    /// The longest archive as sent, bytes.
    pub body: u64,
    /// The longest one once decompressed, bytes.
    pub unpacked: u64,
    /// How many times its compressed size it may become.
    pub ratio: u64,
    /// How many files, folders and links it may hold.
    pub entries: usize,
    /// All archives of one owner that are on their way here or whose builds haven't ended, bytes.
    pub per_owner: u64,
}

impl Contexts {
    /// How much an archive may be.
    #[must_use]
    pub fn archive(&self) -> Limits {
        let Self { body, unpacked, ratio, entries, .. } = *self;
        Limits { body, unpacked, ratio, entries, ..Limits::default() }
    }
}

impl Default for Contexts {
    /// An archive may be a quarter of what OpenFaaS's door takes, since it lies on the disk until its build has
    /// ended, and an owner may have four of that size.
    fn default() -> Self {
        let Limits { unpacked, ratio, entries, .. } = Limits::default();
        Self { body: 1 << 30, unpacked, ratio, entries, per_owner: 4 << 30 }
    }
}
