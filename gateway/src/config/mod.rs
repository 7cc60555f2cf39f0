//! Configuration: one TOML file, every key also a variable, the replaced systems' variables below both.
//!
//! Later ones win: built-in defaults, those of a replaced system whose variables are there, these
//! variables, the file, `KILN_…`.
//! A key `engine.address` is the variable `KILN_ENGINE__ADDRESS`; what isn't a key is an error.

mod builds;
mod contexts;
mod drop_in;
mod identity;
mod kubernetes;
mod limits;
mod openfaas;
mod page;
mod reload;
mod sources;
mod time;
mod webhooks;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

pub use builds::{Bases, SharedBase, Size, Sizes, Steps};
pub use contexts::Contexts;
pub use identity::{CouchDb, Identity, Jwt, OpenWhisk};
pub use kubernetes::Kubernetes;
pub use limits::{Limits, Rates};
pub use openfaas::{OnDisconnect, OpenFaas, Tenant};
pub use page::Page;
pub use reload::{Reload, Source};
pub use sources::{AddHost, Frontend, InvalidSource, Sources};
pub use webhooks::Webhooks;

use crate::registry::{ProcessRegistry, Registries};

/// Variables with our prefix that aren't keys: the client's, and those of the test suites.
const NOT_KEYS: [&str; 5] = ["KILN_CONFIG", "KILN_LOG", "KILN_URL", "KILN_TOKEN", "KILN_PROFILE"];
const NOT_KEY_PREFIXES: [&str; 2] = ["KILN_TEST_", "KILN_DEV_"];

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where ledger, logs and spool lie.
    pub data_dir: PathBuf,
    /// The public listener.
    pub listen: SocketAddr,
    /// The admin listener: metrics. Never to be published.
    pub admin_listen: SocketAddr,
    /// The engine that builds.
    pub engine: Engine,
    /// Who may call.
    pub identity: Identity,
    /// Where images go by default, and Kiln's own credentials.
    pub registry: ProcessRegistry,
    /// Settings by registry host.
    pub registries: Registries,
    /// Which base images callers may build on.
    pub bases: Bases,
    /// What else callers' Dockerfiles may fetch, and what may read them.
    pub sources: Sources,
    /// What build steps are given.
    pub steps: Steps,
    /// How much of the engine a build may use.
    pub sizes: Sizes,
    /// Bounds.
    pub limits: Limits,
    /// Folders that callers send to be built.
    pub contexts: Contexts,
    /// The OpenServerless door.
    pub openserverless: OpenServerless,
    /// The OpenFaaS door.
    pub openfaas: OpenFaas,
    /// The page for people.
    pub page: Page,
    /// Word of builds to their owners' receivers.
    pub webhooks: Webhooks,
    /// Where all this was read.
    #[serde(skip)]
    pub source: Source,
    /// The keys that were opened to everything because the variables of OpenFaaS's builders are there.
    #[serde(skip)]
    pub opened: Vec<&'static str>,
}

/// The engine that builds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// `unix:///path` or `tcp://host:port` of a buildkitd; wins over `docker`.
    pub buildkit: Option<String>,
    /// `unix:///path` of a Docker Engine.
    pub docker: Option<String>,
    /// Folder with `ca.pem`, `cert.pem` and `key.pem` for mutual TLS with a buildkitd.
    pub tls_dir: Option<PathBuf>,
    /// The name in the buildkitd's certificate.
    pub server_name: Option<String>,
    /// A cluster in which each build has a buildkitd of its own.
    pub kubernetes: Option<Kubernetes>,
    /// Accepts a buildkitd behind plain TCP, to whose control every build step may get.
    pub insecure_engine: bool,
}

/// The OpenServerless door.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenServerless {
    /// The catalogue of `ensure`, as JSON.
    pub catalog_json: Option<String>,
    /// The catalogue of `ensure`, as a file.
    pub catalog_file: Option<PathBuf>,
    /// The registry's name as the cluster's nodes know it, for `image` in answers.
    pub pull_host: Option<String>,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {source}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A key isn't known, or its value is of the wrong type.
    #[error("configuration: {0}")]
    Invalid(#[from] Box<toml::de::Error>),
    /// Builds that ask for no class have none.
    #[error("sizes.default {default:?} is none of sizes.classes, which are: {classes}")]
    NoDefaultSize {
        /// The class that isn't there.
        default: String,
        /// Those that are.
        classes: String,
    },
    /// The longest archive could never arrive.
    #[error(
        "openfaas.body is {body} bytes, more than limits.unproved or limits.unproved_per_address has room for; \
         lower the one, or raise the others"
    )]
    NoRoom {
        /// How long an archive may be.
        body: u64,
    },
    /// There is a key, and nobody is to need it.
    #[error(
        "{switch} lets in whoever reaches OpenFaaS's door, and openfaas.payload_secret_file names a key; \
         remove {switch} to have signatures checked, or openfaas.payload_secret_file to have none"
    )]
    Unsigned {
        /// What says that signatures aren't checked.
        switch: &'static str,
    },
    /// A variable can't be a key.
    #[error("{variable}: {fault}")]
    Variable {
        /// Which.
        variable: String,
        /// Why.
        fault: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/kiln"),
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            engine: Engine::default(),
            identity: Identity::default(),
            registry: ProcessRegistry::default(),
            registries: Registries::default(),
            bases: Bases::default(),
            sources: Sources::default(),
            steps: Steps::default(),
            sizes: Sizes::default(),
            limits: Limits::default(),
            contexts: Contexts::default(),
            openserverless: OpenServerless::default(),
            openfaas: OpenFaas::default(),
            page: Page::default(),
            webhooks: Webhooks::default(),
            source: Source::default(),
            opened: Vec::new(),
        }
    }
}

impl Config {
    /// Reads `file`, if one is named, and lays `variables` over and under it.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(file: Option<&Path>, variables: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut said = toml::Table::new();
        if let Some(path) = file {
            let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            let syntax = |source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) };
            said = text.parse::<toml::Table>().map_err(syntax)?;
        }
        let file_says = said.clone();
        for (variable, value) in variables {
            if let Some(key) = key_of(variable) {
                set(&mut said, &key, parse_value(value)).map_err(|fault| invalid(variable, fault))?;
            }
        }
        let mut table = replaced(variables)?;
        merge(&mut table, said.clone());
        if let Some(switch) = openfaas::unsigned_beside_a_key(&said, &table) {
            return Err(ConfigError::Unsigned { switch });
        }
        let opened = drop_in::complete(&mut table, &file_says, |name| value(variables, name));
        let mut config: Self = table.try_into().map_err(Box::new)?;
        config.source = Source { file: file.map(Path::to_owned), variables: Arc::new(variables.clone()) };
        config.opened = opened;
        config.identity.strict_user_check = variables.get("STRICT_USER_CHECK").cloned();
        if let (Some(couchdb), Some(password)) = (&mut config.identity.couchdb, variables.get("COUCHDB_ADMIN_PASSWORD"))
        {
            couchdb.password = Some(password.clone().into());
        }
        config.registry.read_variables(variables);
        config.registry.docker_config_of_home = drop_in::docker_config(|name| value(variables, name));
        if config.sizes.get(None).is_none() {
            let Sizes { default, .. } = config.sizes.clone();
            return Err(ConfigError::NoDefaultSize { default, classes: config.sizes.names() });
        }
        let room = config.limits.unproved.min(config.limits.unproved_per_address);
        if config.openfaas.is_on() && room < config.openfaas.body {
            return Err(ConfigError::NoRoom { body: config.openfaas.body });
        }
        Ok(config)
    }
}

fn invalid(variable: &str, fault: impl Into<String>) -> ConfigError {
    ConfigError::Variable { variable: variable.to_owned(), fault: fault.into() }
}

/// A variable; a blank one is as one that isn't set.
fn value<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> Option<&'v str> {
    variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// What the variables of the replaced systems say, as keys.
fn replaced(variables: &BTreeMap<String, String>) -> Result<toml::Table, ConfigError> {
    const KEYS: [(&str, &str); 11] = [
        ("BUILDER_CATALOG_JSON", "openserverless.catalog_json"),
        ("BUILDER_CATALOG_FILE", "openserverless.catalog_file"),
        ("buildkit_url", "engine.buildkit"),
        ("BUILDKIT_HOST", "engine.buildkit"),
        ("DOCKER_HOST", "engine.docker"),
        ("KUBERNETES_TOKEN_FILENAME", "engine.kubernetes.token_file"),
        ("KUBERNETES_CERT_FILENAME", "engine.kubernetes.ca_file"),
        ("HTTP_PROXY", "steps.http_proxy"),
        ("HTTPS_PROXY", "steps.https_proxy"),
        ("NO_PROXY", "steps.no_proxy"),
        ("buildkit_server_name", "engine.server_name"),
    ];
    let mut table = toml::Table::new();
    let value = |name: &str| value(variables, name);
    for (variable, key) in KEYS {
        if let Some(text) = value(variable) {
            let key: Vec<String> = key.split('.').map(str::to_owned).collect();
            set(&mut table, &key, text.into()).map_err(|fault| invalid(variable, fault))?;
        }
    }
    let openfaas = openfaas::replaced(value);
    if !openfaas.is_empty() {
        table.insert("openfaas".to_owned(), openfaas.into());
    }
    if let Some(port) = value("LISTEN_PORT") {
        let port: u16 = port.parse().map_err(|_| invalid("LISTEN_PORT", "is no port number"))?;
        table.insert("listen".to_owned(), format!("0.0.0.0:{port}").into());
    }
    if value("COUCHDB_SERVICE_HOST").or(value("COUCHDB_ADMIN_PASSWORD")).is_some() {
        let port = value("COUCHDB_SERVICE_PORT").unwrap_or("5984");
        let port: u16 = port.parse().map_err(|_| invalid("COUCHDB_SERVICE_PORT", "is no port number"))?;
        let couchdb = toml::Table::from_iter([
            ("host".to_owned(), toml::Value::from(value("COUCHDB_SERVICE_HOST").unwrap_or("localhost"))),
            ("port".to_owned(), i64::from(port).into()),
            ("user".to_owned(), value("COUCHDB_ADMIN_USER").unwrap_or("whisk_admin").into()),
            // These know no other way, whatever the name looks like.
            ("allow_plain_http".to_owned(), true.into()),
        ]);
        let couchdb = toml::Table::from_iter([("couchdb".to_owned(), couchdb.into())]);
        table.insert("identity".to_owned(), couchdb.into());
    }
    Ok(table)
}

/// The key that a variable stands for: `KILN_ENGINE__ADDRESS` is `engine.address`.
fn key_of(variable: &str) -> Option<Vec<String>> {
    let key = variable.strip_prefix("KILN_")?;
    let ours = !NOT_KEYS.contains(&variable) && !NOT_KEY_PREFIXES.iter().any(|p| variable.starts_with(p));
    ours.then(|| key.split("__").map(str::to_ascii_lowercase).collect())
}

/// Numbers, truth values, lists and quoted text as TOML has them; all else is text.
fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value) if !value.is_datetime() => value,
        _ => text.into(),
    }
}

fn set(table: &mut toml::Table, key: &[String], value: toml::Value) -> Result<(), String> {
    match key {
        [] => Ok(()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| toml::Table::new().into());
            let inner = inner.as_table_mut().ok_or_else(|| format!("{first} is no section"))?;
            set(inner, rest, value)
        }
    }
}

fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(None, &variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn the_replaced_systems_variables_suffice() {
        let config = load(&[
            ("LISTEN_PORT", "5000"),
            ("COUCHDB_SERVICE_HOST", "couchdb"),
            ("COUCHDB_SERVICE_PORT", "5985"),
            ("COUCHDB_ADMIN_USER", "admin"),
            ("COUCHDB_ADMIN_PASSWORD", "123"),
            ("BUILDKIT_HOST", "unix:///run/buildkit/buildkitd.sock"),
        ])
        .unwrap();
        assert_eq!(config.listen.port(), 5000);
        assert_eq!(config.engine.buildkit.as_deref(), Some("unix:///run/buildkit/buildkitd.sock"));
        let couchdb = config.identity.couchdb.unwrap();
        assert_eq!((couchdb.host.as_str(), couchdb.port, couchdb.user.as_str()), ("couchdb", 5985, "admin"));
    }

    #[test]
    fn own_variables_win_and_unknown_ones_are_refused() {
        let config = load(&[("BUILDKIT_HOST", "a"), ("KILN_ENGINE__BUILDKIT", "b"), ("KILN_LIMITS__DEADLINE", "90s")]);
        let config = config.unwrap();
        assert_eq!(config.engine.buildkit.as_deref(), Some("b"));
        assert_eq!(config.limits.deadline, Duration::from_secs(90));
        assert!(load(&[("KILN_ENGINE__ADRESS", "b")]).is_err());
        assert!(load(&[("KILN_LIMITS__QUEUE", "many")]).is_err());
        assert!(load(&[("LISTEN_PORT", "x")]).is_err());
        assert!(load(&[("KILN_TEST_REGISTRY", "x")]).is_ok());
    }

    #[test]
    fn builds_without_a_size_have_one() {
        assert!(load(&[]).unwrap().sizes.get(None).is_some());
        let large = ("KILN_SIZES__CLASSES__LARGE__MEMORY", "4294967296");
        let config = load(&[large, ("KILN_SIZES__DEFAULT", "large")]).unwrap();
        assert_eq!(config.sizes.get(None).and_then(|size| size.memory).map(NonZeroU64::get), Some(4 << 30));
        assert!(load(&[("KILN_SIZES__CLASSES__STANDARD__MEMORY", "0")]).is_err());
        assert!(config.sizes.get(Some("huge")).is_none());
        assert!(matches!(load(&[large]), Err(ConfigError::NoDefaultSize { .. })));
    }
}
