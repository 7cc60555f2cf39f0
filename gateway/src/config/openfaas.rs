//! `[openfaas]`: the door that takes what OpenFaaS's builders take. Off unless a key is named.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::archive::Limits;

/// The file of the key, in the folder that `secret_mount_path` names.
const PAYLOAD_SECRET: &str = "payload-secret";

/// The OpenFaaS door.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenFaas {
    /// The key that signs bodies, read for every request so that it can be changed. Whoever holds it
    /// may name any repository of the registries below.
    pub payload_secret_file: Option<PathBuf>,
    /// The private keys that open sealed build secrets, read for every one; the first is published.
    pub build_secrets_key_file: Option<PathBuf>,
    /// Checks no signature: whoever reaches the listener is as one who holds the key.
    pub disable_hmac: bool,
    /// Whose builds they are. A user of the same name at another door is the same user.
    pub user: String,
    /// Registries that bodies may name beside `registry.host`: patterns over `host[:port]` in which `*`
    /// stands for any characters. One at a private address needs an entry in `[registries]`, too.
    pub registries: Vec<String>,
    /// The longest body as sent, bytes.
    pub body: u64,
    /// The longest one once decompressed, bytes.
    pub unpacked: u64,
    /// How many times its compressed size it may become.
    pub ratio: u64,
    /// How many files, folders and links it may hold.
    pub entries: usize,
}

impl OpenFaas {
    /// Whether the door is there.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.payload_secret_file.is_some() || self.disable_hmac
    }

    /// How much an archive may be.
    #[must_use]
    pub fn archive(&self) -> Limits {
        let Self { body, unpacked, ratio, entries, .. } = *self;
        Limits { body, unpacked, ratio, entries, ..Limits::default() }
    }
}

impl Default for OpenFaas {
    fn default() -> Self {
        let Limits { body, unpacked, ratio, entries, .. } = Limits::default();
        Self {
            payload_secret_file: None,
            build_secrets_key_file: None,
            disable_hmac: false,
            user: "openfaas".to_owned(),
            registries: Vec::new(),
            body,
            unpacked,
            ratio,
            entries,
        }
    }
}

/// What the real builders' variables say, as keys of this section.
pub(super) fn replaced<'v>(value: impl Fn(&str) -> Option<&'v str>) -> toml::Table {
    let mut table = toml::Table::new();
    if let Some(folder) = value("secret_mount_path") {
        let file = Path::new(folder).join(PAYLOAD_SECRET);
        table.insert("payload_secret_file".to_owned(), file.display().to_string().into());
    }
    if let Some(file) = value("build_secrets_private_key_path") {
        table.insert("build_secrets_key_file".to_owned(), file.into());
    }
    // No other spelling, as there: a mistake must not open the door.
    if value("disable_hmac") == Some("true") {
        table.insert("disable_hmac".to_owned(), true.into());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_builders_variables_open_the_door_and_nothing_else_does() {
        let on = |name: &str, value: &'static str| {
            let table = replaced(|asked| (asked == name).then_some(value));
            table.try_into::<OpenFaas>().unwrap()
        };
        let signed = on("secret_mount_path", "/var/openfaas/secrets/");
        assert_eq!(signed.payload_secret_file.as_deref(), Some(Path::new("/var/openfaas/secrets/payload-secret")));
        assert!(signed.is_on() && !signed.disable_hmac);
        let secrets = on("build_secrets_private_key_path", "/var/secrets/buildkit/key");
        assert_eq!(secrets.build_secrets_key_file.as_deref(), Some(Path::new("/var/secrets/buildkit/key")));
        assert!(!secrets.is_on());
        assert!(on("disable_hmac", "true").is_on());
        for spelling in ["True", "1", "yes", "false"] {
            assert!(!on("disable_hmac", spelling).is_on(), "{spelling}");
        }
    }
}
