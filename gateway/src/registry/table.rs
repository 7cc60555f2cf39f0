//! The one table of settings by registry host; Kiln's own client obeys it, and engines are given the same.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::host::Host;

/// Settings by registry: `[registries."host:port"]` in the configuration.
///
/// A host that is named here is also trusted to be where its name leads: it may have a private address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Registries(BTreeMap<Host, RegistrySettings>);

/// How one registry is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Whether it speaks plain HTTP. Unset: only on this machine's loopback, as Docker and BuildKit have it.
    pub plain_http: Option<bool>,
    /// Takes any certificate.
    pub skip_verify: bool,
    /// Certificate authorities, PEM, trusted for this host beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Registries that have the same content, asked in this order before the host itself.
    pub mirrors: Vec<Host>,
}

/// A certificate that the table names can't be read.
#[derive(Debug, thiserror::Error)]
#[error("ca_file {path}: {source}")]
pub struct Unreadable {
    path: PathBuf,
    source: std::io::Error,
}

/// `buildkitd.toml`, as far as registries go.
#[derive(Serialize)]
struct BuildkitdToml<'a> {
    registry: BTreeMap<&'a str, BuildkitdRegistry<'a>>,
}

#[derive(Serialize)]
struct BuildkitdRegistry<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    http: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<[PathBuf; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mirrors: Vec<&'a str>,
}

impl Registries {
    /// What is configured for `host`.
    #[must_use]
    pub fn get(&self, host: &Host) -> Option<&RegistrySettings> {
        self.0.get(host)
    }

    /// All hosts with settings.
    pub fn iter(&self) -> impl Iterator<Item = (&Host, &RegistrySettings)> {
        self.0.iter()
    }

    /// Whether `host` speaks plain HTTP.
    #[must_use]
    pub fn plain_http(&self, host: &Host) -> bool {
        self.get(host).and_then(|settings| settings.plain_http).unwrap_or(host.is_loopback())
    }

    /// Whether `host`'s certificate isn't to be verified.
    #[must_use]
    pub fn skip_verify(&self, host: &Host) -> bool {
        self.get(host).is_some_and(|settings| settings.skip_verify)
    }

    /// The registries to ask before `host`.
    #[must_use]
    pub fn mirrors(&self, host: &Host) -> &[Host] {
        self.get(host).map_or(&[], |settings| &settings.mirrors)
    }

    /// Names `host` in the table; with `plain_http`, as speaking it unless the table already says otherwise.
    pub fn name(&mut self, host: &Host, plain_http: bool) {
        let settings = self.0.entry(host.clone()).or_default();
        if plain_http {
            settings.plain_http.get_or_insert(true);
        }
    }

    /// The lines that give a buildkitd the same settings (`buildkitd.toml`), empty where its defaults agree.
    #[must_use]
    pub fn buildkitd_toml(&self) -> String {
        self.lines(|path, _| path.clone())
    }

    /// The same for a daemon that finds the authorities' certificates in `folder`; with them, by their names there.
    ///
    /// # Errors
    /// When a `ca_file` can't be read.
    pub fn buildkitd_files(&self, folder: &Path) -> Result<(String, BTreeMap<String, Vec<u8>>), Unreadable> {
        let name = |number: usize| format!("registry-{number}.pem");
        let mut files = BTreeMap::new();
        for (number, settings) in self.0.values().enumerate() {
            if let Some(path) = &settings.ca_file {
                let read = std::fs::read(path).map_err(|source| Unreadable { path: path.clone(), source });
                files.insert(name(number), read?);
            }
        }
        Ok((self.lines(|_, number| folder.join(name(number))), files))
    }

    /// `ca` tells where a daemon finds the certificate that is in a file here, of the so-and-so-manieth registry.
    fn lines(&self, ca: impl Fn(&PathBuf, usize) -> PathBuf) -> String {
        let entry = |(host, settings): (&'_ Host, &RegistrySettings)| {
            let defaults = settings.plain_http.is_none_or(|plain| plain == host.is_loopback())
                && !settings.skip_verify
                && settings.ca_file.is_none()
                && settings.mirrors.is_empty();
            !defaults
        };
        let registry: BTreeMap<&str, BuildkitdRegistry<'_>> = self
            .0
            .iter()
            .enumerate()
            .filter(|&(_, row)| entry(row))
            .map(|(number, (host, settings))| {
                let lines = BuildkitdRegistry {
                    http: self.plain_http(host),
                    insecure: settings.skip_verify,
                    ca: settings.ca_file.as_ref().map(|path| [ca(path, number)]),
                    mirrors: settings.mirrors.iter().map(Host::endpoint).collect(),
                };
                (host.as_str(), lines)
            })
            .collect();
        if registry.is_empty() {
            return String::new();
        }
        // Strings and truth values only: there is nothing in it that TOML couldn't say.
        toml::to_string(&BuildkitdToml { registry }).unwrap_or_default()
    }
}

impl FromIterator<(Host, RegistrySettings)> for Registries {
    fn from_iter<I: IntoIterator<Item = (Host, RegistrySettings)>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Registries {
        toml::from_str(text).unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn plain_http_is_for_loopback_and_where_the_table_says_so() {
        let table = table("['reg:5000']\nplain_http = true\n['localhost:1']\nplain_http = false\n['quiet']");
        for (name, plain) in [
            ("reg:5000", true),
            ("reg:5001", false),
            ("localhost:1", false),
            ("127.0.0.1:5000", true),
            ("quiet", false),
        ] {
            assert_eq!(table.plain_http(&host(name)), plain, "{name}");
        }
    }

    #[test]
    fn unknown_settings_and_hosts_that_are_none_are_refused() {
        assert!(toml::from_str::<Registries>("['reg']\nplain-http = true").is_err());
        assert!(toml::from_str::<Registries>("['http://reg']\nplain_http = true").is_err());
        assert!(toml::from_str::<Registries>("['reg']\nmirrors = ['a/b']").is_err());
    }

    #[test]
    fn buildkitd_is_given_the_same_settings() {
        let mut table = table(
            "['docker.io']\nmirrors = ['mirror:5000']\n['self.signed']\nca_file = '/etc/ca.pem'\nskip_verify = true\n\
             ['localhost:5000']\nplain_http = true",
        );
        table.name(&host("svc:5000"), true);
        assert_eq!(
            table.buildkitd_toml(),
            "[registry.\"docker.io\"]\nmirrors = [\"mirror:5000\"]\n\n\
             [registry.\"self.signed\"]\ninsecure = true\nca = [\"/etc/ca.pem\"]\n\n\
             [registry.\"svc:5000\"]\nhttp = true\n"
        );
        assert_eq!(Registries::default().buildkitd_toml(), "");
    }

    #[test]
    fn a_daemon_elsewhere_is_given_the_certificates_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "PEM").unwrap();
        let with =
            |file: &Path| table(&format!("['a']\nmirrors = ['m']\n['self.signed']\nca_file = '{}'", file.display()));
        let (lines, files) = with(&file).buildkitd_files(Path::new("/etc/kiln")).unwrap();
        assert!(lines.ends_with("[registry.\"self.signed\"]\nca = [\"/etc/kiln/registry-1.pem\"]\n"), "{lines}");
        assert_eq!(files, BTreeMap::from([("registry-1.pem".to_owned(), b"PEM".to_vec())]));
        assert!(with(&folder.path().join("none")).buildkitd_files(Path::new("/etc/kiln")).is_err());
    }

    #[test]
    fn a_hint_never_overrules_the_table() {
        let mut table = table("['reg']\nplain_http = false");
        table.name(&host("reg"), true);
        assert!(!table.plain_http(&host("reg")));
    }
}
