//! `[openfaas]`: the door that takes what OpenFaaS's builders take. Off unless a key is named.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::archive::Limits;

/// The file of the key, in the folder that `secret_mount_path` names.
const PAYLOAD_SECRET: &str = "payload-secret";

/// The OpenFaaS door.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenFaas {
    /// The key that signs bodies, or the old and the new one while it changes; read for every request.
    /// Where nobody else may call, whoever holds it may name any repository of the registries below.
    #[serde(deserialize_with = "paths")]
    pub payload_secret_file: Vec<PathBuf>,
    /// The private keys that open sealed build secrets, read for every one; the first is published.
    pub build_secrets_key_file: Option<PathBuf>,
    /// Checks no signature: whoever reaches the listener is as one who holds the key.
    pub disable_hmac: bool,
    /// Takes no signature but `X-Kiln-Signature`, since whoever sees one of the others may send its request again.
    pub timed_signatures: bool,
    /// Whose builds they are that name no tenant.
    pub user: String,
    /// Others who sign, each with keys and repositories of their own.
    pub tenants: BTreeMap<String, Tenant>,
    /// `<tenant>.<domain>` as host name names a tenant; where the host name is another one,
    /// `X-Kiln-Key-Id` may.
    pub domain: Option<String>,
    /// Lets the holder of the one key name any repository although others may call by `[identity]`: for
    /// an installation whose callers are all one tenant.
    pub unbounded: bool,
    /// What the names of this door's users begin with.
    pub prefix: Option<String>,
    /// Registries that bodies may name beside `registry.host`: patterns over `host[:port]` in which `*`
    /// stands for any characters. One at a private address needs an entry in `[registries]`, too.
    pub registries: Vec<String>,
    /// Requests with a build at once, beyond which they are refused as by the real one; 0 is any number,
    /// of which those wait that the engine has no place for.
    pub max_inflight: usize,
    /// What becomes of a build whose caller hangs up.
    pub on_disconnect: OnDisconnect,
    /// Build arguments of every archive, below its own.
    pub build_args: BTreeMap<String, String>,
    /// The longest body as sent, bytes.
    pub body: u64,
    /// The longest one once decompressed, bytes.
    pub unpacked: u64,
    /// How many times its compressed size it may become.
    pub ratio: u64,
    /// How many files, folders and links it may hold.
    pub entries: usize,
}

/// Somebody who signs with keys of their own, and has repositories of their own: `user` and `user/…`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Whose builds they are; the tenant's own name unless set.
    #[serde(default)]
    pub user: Option<String>,
    /// The key, or the old and the new one.
    #[serde(deserialize_with = "paths")]
    pub payload_secret_file: Vec<PathBuf>,
}

/// What becomes of a build whose caller hangs up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// It is cancelled.
    #[default]
    Cancel,
    /// It goes on to its end, as with the real ones.
    Keep,
}

impl OpenFaas {
    /// Whether the door is there.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.payload_secret_file.is_empty() || !self.tenants.is_empty() || self.disable_hmac
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
            payload_secret_file: Vec::new(),
            build_secrets_key_file: None,
            disable_hmac: false,
            timed_signatures: false,
            user: "openfaas".to_owned(),
            tenants: BTreeMap::new(),
            domain: None,
            unbounded: false,
            prefix: None,
            registries: Vec::new(),
            max_inflight: 0,
            on_disconnect: OnDisconnect::default(),
            build_args: BTreeMap::new(),
            body,
            unpacked,
            ratio,
            entries,
        }
    }
}

/// One path, or several.
fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    let path = |value: toml::Value| value.try_into::<PathBuf>().map_err(D::Error::custom);
    match toml::Value::deserialize(from)? {
        toml::Value::Array(paths) => paths.into_iter().map(path).collect(),
        one => path(one).map(|path| vec![path]),
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
    // As text where it is no number: reading it says what it should be.
    if let Some(most) = value("max_inflight") {
        let most = most.parse().map_or_else(|_| toml::Value::from(most), toml::Value::Integer);
        table.insert("max_inflight".to_owned(), most);
    }
    let proxies = ["http_proxy", "https_proxy", "no_proxy"].map(|name| Some((name.to_owned(), value(name)?.into())));
    let proxies: toml::Table = proxies.into_iter().flatten().collect();
    if !proxies.is_empty() {
        table.insert("build_args".to_owned(), proxies.into());
    }
    // No other spelling, as there: a mistake must not open the door.
    if value("disable_hmac") == Some("true") {
        table.insert("disable_hmac".to_owned(), true.into());
    }
    table
}

/// What switches signatures off, where the settings that were `said` as keys name a key as well. The real builders'
/// variables may have both, as with them: their switch wins over the folder that every deployment names.
pub(super) fn unsigned_beside_a_key(said: &toml::Table, all: &toml::Table) -> Option<&'static str> {
    let section = |table: &toml::Table, key: &str| table.get("openfaas")?.get(key).cloned();
    let named = section(said, "payload_secret_file")?;
    let none = named.as_array().is_some_and(Vec::is_empty);
    let off = section(all, "disable_hmac") == Some(true.into());
    let switch = section(said, "disable_hmac").map_or("the variable disable_hmac", |_| "openfaas.disable_hmac");
    (off && !none).then_some(switch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_file_or_several() {
        let read = |text: &str| toml::from_str::<OpenFaas>(text);
        let files = |text: &str| read(text).map(|section| section.payload_secret_file.len()).ok();
        assert_eq!(files("payload_secret_file = \"a\""), Some(1));
        assert_eq!(files("payload_secret_file = [\"a\", \"b\"]"), Some(2));
        assert_eq!(files("payload_secret_file = 1"), None);
        assert!(read("[tenants.acme]\nuser = \"x\"").is_err(), "a tenant without a key");
        assert!(read("[tenants.acme]\npayload_secret_file = \"a\"").is_ok_and(|section| section.is_on()));
        assert!(read("on_disconnect = \"ignore\"").is_err());
    }

    #[test]
    fn the_real_builders_variables_open_the_door_and_nothing_else_does() {
        let on = |name: &str, value: &'static str| {
            let table = replaced(|asked| (asked == name).then_some(value));
            table.try_into::<OpenFaas>().unwrap()
        };
        let signed = on("secret_mount_path", "/var/openfaas/secrets/");
        assert_eq!(signed.payload_secret_file, [Path::new("/var/openfaas/secrets/payload-secret")]);
        assert!(signed.is_on() && !signed.disable_hmac);
        let secrets = on("build_secrets_private_key_path", "/var/secrets/buildkit/key");
        assert_eq!(secrets.build_secrets_key_file.as_deref(), Some(Path::new("/var/secrets/buildkit/key")));
        assert!(!secrets.is_on());
        assert!(on("disable_hmac", "true").is_on());
        for spelling in ["True", "1", "yes", "false"] {
            assert!(!on("disable_hmac", spelling).is_on(), "{spelling}");
        }
    }
    #[test]
    fn a_key_of_ours_and_a_switch_that_makes_it_needless_contradict_each_other() {
        let switch = |said: &str, variables: &[(&str, &'static str)]| {
            let said: toml::Table = said.parse().unwrap();
            let theirs = replaced(|asked| variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| *value));
            let mut all = toml::Table::from_iter([("openfaas".to_owned(), theirs.into())]);
            super::super::merge(&mut all, said.clone());
            unsigned_beside_a_key(&said, &all)
        };
        let key = "[openfaas]\npayload_secret_file = \"key\"\n";
        let off = [("disable_hmac", "true"), ("secret_mount_path", "/keys")];
        assert_eq!(switch(key, &off), Some("the variable disable_hmac"));
        assert_eq!(switch(&format!("{key}disable_hmac = true\n"), &[]), Some("openfaas.disable_hmac"));
        assert_eq!(switch(&format!("{key}disable_hmac = false\n"), &off), None);
        assert_eq!(switch("[openfaas]\npayload_secret_file = []\n", &off), None);
        assert_eq!(switch("", &off), None, "as with the real builders");
        assert_eq!(switch(key, &off[1..]), None);
    }
}
