//! An installation that the variables of OpenFaaS's builders describe: what they leave out is as there.
//!
//! It is meant where one of [`THEIRS`] is set, whatever it says. What the file, or a `KILN_…` variable, says wins, and a
//! file that knows one of [`OURS`] isn't of such an installation: beside it nothing is opened.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Variables that nothing but those builders has; each of their deployments sets one. `buildkit_url`, `insecure`
/// and `max_inflight` aren't among them: others have them, too, and a door mustn't open by accident.
const THEIRS: [&str; 4] = ["secret_mount_path", "disable_hmac", "enable_lchown", "build_secrets_private_key_path"];
/// Sections in which a file says who may build on what, and push where.
const OURS: [&str; 3] = ["openfaas", "registry", "bases"];
/// Where the key is unless `secret_mount_path` says otherwise.
const PAYLOAD_SECRET: &str = "/var/openfaas/secrets/payload-secret";
/// Where the engine is unless something says otherwise.
const BUILDKIT: &str = "tcp://of-buildkit:1234";
/// The home of those who say none.
const HOME: &str = "/home/app";

/// Completes the settings, if the drop-in is meant, and gives the keys that were opened by it. `file` is what the file says.
pub(super) fn complete<'v>(
    table: &mut Table,
    file: &Table,
    value: impl Fn(&str) -> Option<&'v str>,
) -> Vec<&'static str> {
    if !is_meant(&value) {
        return Vec::new();
    }
    let has = |table: &Table, section: &str, key: &str| table.get(section).and_then(|table| table.get(key)).is_some();
    if !["buildkit", "docker"].iter().any(|engine| has(table, "engine", engine)) {
        default(table, "engine", "buildkit", BUILDKIT);
    }
    let tenants = has(table, "openfaas", "tenants");
    let unsigned = table.get("openfaas").and_then(|door| door.get("disable_hmac")) == Some(&Value::Boolean(true));
    if !tenants && !unsigned {
        default(table, "openfaas", "payload_secret_file", PAYLOAD_SECRET);
    }
    // No other spelling, as there.
    if value("insecure") == Some("true") {
        default(table, "registry", "insecure", true);
    }
    // There, whoever holds the key names every registry, inside and outside, and builds on every base.
    // That can be kept where nobody else calls.
    if tenants || table.contains_key("identity") || OURS.iter().any(|section| file.contains_key(*section)) {
        return Vec::new();
    }
    let opened = [
        default(table, "openfaas", "registries", everything()).then_some("openfaas.registries"),
        default(table, "registry", "allowed_user_registries", everything())
            .then_some("registry.allowed_user_registries"),
        default(table, "bases", "any", true).then_some("bases.any"),
    ];
    opened.into_iter().flatten().collect()
}

/// The folder in which they look for registries' credentials; none need be there.
pub(super) fn docker_config<'v>(value: impl Fn(&str) -> Option<&'v str>) -> Option<PathBuf> {
    is_meant(&value).then(|| Path::new(value("HOME").unwrap_or(HOME)).join(".docker"))
}

fn is_meant<'v>(value: &impl Fn(&str) -> Option<&'v str>) -> bool {
    THEIRS.iter().any(|name| value(name).is_some())
}

fn everything() -> Value {
    Value::Array(vec!["*".into()])
}

/// Sets a key that isn't set, and says whether it did. What isn't a section where one belongs is found wrong by
/// whoever reads it.
fn default(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) -> bool {
    let section = table.entry(section).or_insert_with(|| Table::new().into());
    let Some(section) = section.as_table_mut().filter(|section| !section.contains_key(key)) else { return false };
    section.insert(key.to_owned(), value.into());
    true
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use crate::config::{Config, ConfigError};

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables: BTreeMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::load(None, &variables)
    }

    #[test]
    fn any_variable_of_theirs_alone_brings_what_they_have_by_default() {
        for name in super::THEIRS {
            let config = load(&[(name, "false")]).unwrap();
            assert!(config.openfaas.is_on(), "{name}");
            assert_eq!(config.engine.buildkit.as_deref(), Some("tcp://of-buildkit:1234"), "{name}");
            assert_eq!(config.registry.docker_config_of_home, Some(PathBuf::from("/home/app/.docker")), "{name}");
            assert!(!config.registry.insecure && config.bases.any && config.openfaas.registries == ["*"], "{name}");
        }
        let config = load(&[("enable_lchown", "false"), ("HOME", "/root")]).unwrap();
        assert_eq!(config.openfaas.payload_secret_file, [PathBuf::from("/var/openfaas/secrets/payload-secret")]);
        assert_eq!(config.registry.docker_config_of_home, Some(PathBuf::from("/root/.docker")));
        let others = [("max_inflight", "2"), ("buildkit_url", "true"), ("insecure", "true"), ("HOME", "/root")];
        for (name, value) in others {
            let config = load(&[(name, value)]).unwrap();
            assert!(!config.openfaas.is_on() && !config.bases.any && !config.registry.insecure, "{name}");
            assert!(config.registry.docker_config_of_home.is_none(), "{name}");
        }
    }

    #[test]
    fn what_is_said_counts_and_nothing_is_opened_where_others_call() {
        let config = load(&[
            ("enable_lchown", "false"),
            ("max_inflight", "3"),
            ("secret_mount_path", "/keys"),
            ("buildkit_url", "unix:///b.sock"),
            ("DOCKER_CONFIG", "/d"),
            ("insecure", "true"),
            ("KILN_BASES__ANY", "false"),
            ("https_proxy", "http://proxy:3128"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.openfaas.payload_secret_file, [PathBuf::from("/keys/payload-secret")]);
        assert_eq!((config.openfaas.max_inflight, config.bases.any), (3, false));
        assert!(config.registry.insecure);
        assert_eq!(config.engine.buildkit.as_deref(), Some("unix:///b.sock"));
        assert_eq!(config.registry.docker_config, Some(PathBuf::from("/d")));
        assert_eq!(config.openfaas.build_args["https_proxy"], "http://proxy:3128");
        let others =
            load(&[("enable_lchown", "false"), ("KILN_IDENTITY__USERS_FILE", "u"), ("DOCKER_HOST", "unix:///d")]);
        let others = others.unwrap();
        assert!(others.openfaas.is_on() && others.openfaas.registries.is_empty() && !others.bases.any);
        assert!(others.engine.buildkit.is_none(), "it would win over docker");
        assert!(load(&[("disable_hmac", "true")]).unwrap().openfaas.payload_secret_file.is_empty());
        assert!(load(&[("max_inflight", "many")]).is_err());
    }

    #[test]
    fn what_is_opened_is_told_and_nothing_is_beside_a_file_that_decides_it() {
        let opened = |file: &str| {
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&path, file).unwrap();
            let variables = BTreeMap::from([("enable_lchown".to_owned(), "false".to_owned())]);
            let config = Config::load(Some(path.path()), &variables).unwrap();
            assert!(config.openfaas.is_on(), "{file}");
            assert_eq!(config.bases.any, config.opened.contains(&"bases.any"), "{file}");
            config.opened
        };
        let all = ["openfaas.registries", "registry.allowed_user_registries", "bases.any"];
        assert_eq!(opened("[limits]\nconcurrency = 2\n"), all);
        for section in super::OURS {
            assert!(opened(&format!("[{section}]\n")).is_empty(), "{section}");
        }
    }
}
