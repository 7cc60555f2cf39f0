//! `kiln buildkitd check`: whether a daemon's configuration can be what it is meant to be.
//!
//! The daemon itself passes over keys that it doesn't know, so that a misspelt ceiling is none. Its keys are those of
//! BuildKit 0.33 (`cmd/buildkitd/config`); a table whose keys are the operator's own is taken as it is.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use clap::Subcommand;
use toml::{Table, Value};

use super::{exit, fail, follow::say};

/// Look after the configuration of BuildKit daemons.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check a buildkitd.toml
    Check {
        /// The file
        file: PathBuf,
    },
}

/// What a key holds.
#[derive(Clone, Copy)]
enum Holds {
    Text,
    Texts,
    Flag,
    Number,
    /// Bytes, a percentage, or a number with a unit.
    Space,
    /// Seconds, or a number with a unit.
    Time,
    /// A table with these keys.
    Keys(&'static [(&'static str, Holds)]),
    /// A table with these keys and those that every worker has.
    Worker(&'static [(&'static str, Holds)]),
    /// As many such tables as one likes, in an array.
    Several(&'static [(&'static str, Holds)]),
    /// The same by names of one's own.
    Named(&'static [(&'static str, Holds)]),
    /// Whatever it likes.
    Own,
}

use Holds::{Flag, Keys, Named, Number, Own, Several, Space, Text, Texts, Time, Worker};

const POLICY: &[(&str, Holds)] = &[
    ("all", Flag),
    ("filters", Texts),
    ("keepDuration", Time),
    ("keepBytes", Space),
    ("reservedSpace", Space),
    ("maxUsedSpace", Space),
    ("minFreeSpace", Space),
];

/// What both kinds of workers have.
const WORKER: &[(&str, Holds)] = &[
    ("enabled", Flag),
    ("labels", Own),
    ("platforms", Texts),
    ("snapshotter", Text),
    ("rootless", Flag),
    ("gc", Flag),
    ("gckeepstorage", Space),
    ("reservedSpace", Space),
    ("maxUsedSpace", Space),
    ("minFreeSpace", Space),
    ("gcpolicy", Several(POLICY)),
    ("networkMode", Text),
    ("cniConfigPath", Text),
    ("cniBinaryPath", Text),
    ("cniPoolSize", Number),
    ("bridgeName", Text),
    ("bridgeSubnet", Text),
    ("defaultCgroupParent", Text),
    ("apparmor-profile", Text),
    ("selinux", Flag),
    ("max-parallelism", Number),
];

const OCI: &[(&str, Holds)] =
    &[("noProcessSandbox", Flag), ("binary", Text), ("proxySnapshotterPath", Text), ("stargzSnapshotter", Own)];

const CONTAINERD: &[(&str, Holds)] =
    &[("address", Text), ("namespace", Text), ("runtime", Keys(&[("name", Text), ("path", Text), ("options", Own)]))];

const DAEMON: &[(&str, Holds)] = &[
    ("debug", Flag),
    ("trace", Flag),
    ("root", Text),
    ("insecure-entitlements", Texts),
    ("proxyNetwork", Flag),
    ("log", Keys(&[("format", Text), ("level", Text)])),
    (
        "grpc",
        Keys(&[
            ("address", Texts),
            ("debugAddress", Text),
            ("uid", Number),
            ("gid", Number),
            ("securityDescriptor", Text),
            ("tls", Keys(&[("cert", Text), ("key", Text), ("ca", Text)])),
        ]),
    ),
    ("otel", Keys(&[("socketPath", Text)])),
    ("cdi", Keys(&[("disabled", Flag), ("specDirs", Texts), ("autoAllowed", Texts)])),
    ("worker", Keys(&[("oci", Worker(OCI)), ("containerd", Worker(CONTAINERD))])),
    (
        "registry",
        Named(&[
            ("mirrors", Texts),
            ("http", Flag),
            ("insecure", Flag),
            ("ca", Texts),
            ("keypair", Several(&[("key", Text), ("cert", Text)])),
            ("tlsconfigdir", Texts),
        ]),
    ),
    ("dns", Keys(&[("nameservers", Texts), ("options", Texts), ("searchDomains", Texts)])),
    ("history", Keys(&[("maxAge", Time), ("maxEntries", Number)])),
    (
        "frontend",
        Keys(&[
            ("dockerfile.v0", Keys(&[("enabled", Flag)])),
            ("gateway.v0", Keys(&[("enabled", Flag), ("allowedRepositories", Texts)])),
        ]),
    ),
    ("system", Keys(&[("platformsCacheMaxAge", Time), ("maxRegistryConcurrency", Number)])),
    ("provenanceEnvDir", Text),
    ("cache", Own),
];

pub(crate) fn run(verb: &Verb) -> ExitCode {
    let Verb::Check { file } = verb;
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return fail(exit::USAGE, &format!("{}: {error}", file.display())),
    };
    let faults = faults(&text);
    for fault in &faults {
        say(&format!("{}: {fault}", file.display()));
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// What is wrong with a configuration, a sentence each.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    match text.parse::<Table>() {
        Ok(table) => examine("", &table, &[DAEMON], &mut faults),
        Err(error) => faults.push(format!("it is no TOML: {}", error.message())),
    }
    faults
}

fn examine(at: &str, table: &Table, keys: &[&[(&str, Holds)]], faults: &mut Vec<String>) {
    let known: BTreeMap<_, _> = keys.iter().copied().flatten().copied().collect();
    for (key, value) in table {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match known.get(key.as_str()) {
            Some(holds) => weigh(&path, value, *holds, faults),
            None => faults.push(format!("buildkitd has no {path}, and would pass over it")),
        }
    }
}

fn weigh(path: &str, value: &Value, holds: Holds, faults: &mut Vec<String>) {
    let mut expected = |what: &str| faults.push(format!("{path} is {}, and holds {what}", value.type_str()));
    match (holds, value) {
        (Own, _)
        | (Text, Value::String(_))
        | (Flag, Value::Boolean(_))
        | (Number | Space | Time, Value::Integer(0..)) => {}
        (Texts, Value::Array(items)) if items.iter().all(Value::is_str) => {}
        (Space, Value::String(text))
            if is_amount(text, &["%", "", "b", "kb", "mb", "gb", "tb", "k", "m", "g", "t"]) => {}
        (Time, Value::String(text)) if is_amount(text, &["", "ms", "s", "m", "h"]) || is_time(text) => {}
        (Keys(keys), Value::Table(table)) => examine(path, table, &[keys], faults),
        (Worker(keys), Value::Table(table)) => examine(path, table, &[keys, WORKER], faults),
        (Named(keys), Value::Table(named)) => {
            for (name, value) in named {
                weigh(&format!("{path}.{name:?}"), value, Keys(keys), faults);
            }
        }
        (Several(keys), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                weigh(&format!("{path}[{index}]"), item, Keys(keys), faults);
            }
        }
        (Text, _) => expected("a text"),
        (Texts, _) => expected("a list of texts"),
        (Flag, _) => expected("true or false"),
        (Number, _) => expected("a number"),
        (Space, _) => expected("a number of bytes, as 20000000000, \"20GB\" or \"10%\""),
        (Time, _) => expected("a time, as 172800 seconds or \"48h\""),
        (Keys(_) | Worker(_) | Named(_), _) => expected("a table"),
        (Several(_), _) => expected("an array of tables"),
    }
}

/// A number and one of these units.
fn is_amount(text: &str, units: &[&str]) -> bool {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    number.parse::<f64>().is_ok() && units.contains(&unit.trim().to_ascii_lowercase().as_str())
}

/// `1h30m`, as Go writes times.
fn is_time(text: &str) -> bool {
    let parts = text.split_inclusive(|c: char| c.is_ascii_alphabetic()).collect::<Vec<_>>();
    !parts.is_empty() && parts.iter().all(|part| is_amount(part, &["s", "m", "h"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shipped_has_no_fault() {
        for file in ["buildkitd.toml", "rootless.toml"] {
            let path = format!("{}/../deploy/buildkit/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(faults(&text), [""; 0], "{file}");
            // Each line that sets something, with its key misspelt, is one that the daemon would pass over.
            for line in text.lines().filter(|line| line.contains(" = ") && !line.trim_start().starts_with('#')) {
                let misspelt = text.replacen(line, &line.replacen(" = ", "x = ", 1), 1);
                assert_eq!(faults(&misspelt).len(), 1, "{line}");
            }
        }
    }

    #[test]
    fn what_the_daemon_would_not_take_is_named() {
        for (text, fault) in [
            ("root = ", "it is no TOML"),
            ("rot = 'x'", "buildkitd has no rot,"),
            ("[worker.oci]\nmaxUsedSpce = 1", "buildkitd has no worker.oci.maxUsedSpce,"),
            ("[worker.oci]\nmaxUsedSpace = '20 Gb!'", "worker.oci.maxUsedSpace is string, and holds a number of bytes"),
            ("[worker.oci]\ngc = 'yes'", "worker.oci.gc is string, and holds true or false"),
            ("[[worker.oci.gcpolicy]]\nkeepDuration = 'x'", "worker.oci.gcpolicy[0].keepDuration is string"),
            ("[registry.'r:5000']\nhtp = true", "buildkitd has no registry.\"r:5000\".htp,"),
            ("[grpc]\naddress = 'unix:///x'", "grpc.address is string, and holds a list of texts"),
            ("worker = 1", "worker is integer, and holds a table"),
        ] {
            let faults = faults(text);
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{text}: {faults:?}");
        }
        for fine in ["'10%'", "'1.5GB'", "512", "'512MB'", "'20g'"] {
            assert_eq!(faults(&format!("[worker.oci]\nmaxUsedSpace = {fine}")), [""; 0], "{fine}");
        }
        for fine in ["60", "'60'", "'48h'", "'1h30m'"] {
            assert_eq!(faults(&format!("[history]\nmaxAge = {fine}")), [""; 0], "{fine}");
        }
    }
}
