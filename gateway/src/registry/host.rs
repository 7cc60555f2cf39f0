//! The name of a registry: `host[:port]`, checked once, so that nothing else ends up in a URL.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde::Deserialize;

/// Docker Hub as references name it.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Where Docker Hub's registry really answers; also how BuildKit names it when it asks for credentials.
const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";

/// A registry, `host[:port]`, in lower case; Docker Hub's many names are one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(Arc<str>);

/// The text names no registry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no registry: a registry is host or host:port, without scheme and path")]
pub struct InvalidHost(String);

/// A registry as a setting names it, perhaps with the scheme in front.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NamedHost {
    pub(super) host: Host,
    /// It was written `http://…`.
    pub(super) plain_http: bool,
}

// === impl Host ===

impl Host {
    /// Reads `host[:port]`: a DNS name, an IPv4 address or an IPv6 address in brackets.
    ///
    /// # Errors
    /// When the text is anything else, also for the shorthands of addresses (`127.1`,
    /// `2130706433`), which URL libraries expand and a check of the name would miss.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let lower = text.to_ascii_lowercase();
        let (name, port) = match lower.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (lower.as_str(), None),
        };
        if !is_name(name) || !port.is_none_or(is_port) || text.len() > 255 {
            return Err(InvalidHost(text.chars().take(255).collect()));
        }
        let hub = matches!(lower.as_str(), "index.docker.io" | DOCKER_HUB_ENDPOINT | "registry.hub.docker.com");
        Ok(Self(if hub { DOCKER_HUB.into() } else { lower.into() }))
    }

    /// The name as references have it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The `host[:port]` that answers.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        if self.is_docker_hub() { DOCKER_HUB_ENDPOINT } else { &self.0 }
    }

    /// Whether this is Docker Hub.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == DOCKER_HUB
    }

    /// Whether it is this machine by its very name (`localhost`, 127.0.0.0/8, `::1`).
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.name() == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }

    /// The address, where the name is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.name().trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The name without the port.
    pub(super) fn name(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => &self.0,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Host {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

// === impl NamedHost ===

impl NamedHost {
    /// Reads `[http[s]://]host[:port][/]`, as `REGISTRY_HOST` has it.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidHost> {
        let (plain_http, rest) = match text.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            _ => (false, text),
        };
        Host::parse(rest.strip_suffix('/').unwrap_or(rest)).map(|host| Self { host, plain_http })
    }
}

fn is_name(name: &str) -> bool {
    if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What ends in a number is an address to a URL parser, so it must be one in full.
    let last = name.rsplit('.').next().unwrap_or(name);
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    name.split('.').all(is_label) && (!numeric || name.parse::<Ipv4Addr>().is_ok())
}

fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_url_could_misread_are_hosts() {
        for text in ["localhost:5000", "ghcr.io", "10.0.0.7:443", "[::1]:5000", "a_b.svc:5000", "Reg.Example:1"] {
            assert!(Host::parse(text).is_ok(), "{text}");
        }
        let long = "a".repeat(256);
        for text in [
            "",
            ":5000",
            "host:",
            "host:0",
            "host:65536",
            "host:05",
            "a/b",
            "user@host",
            "host?x",
            "a..b",
            "127.1",
            "2130706433",
            "0x7f.1",
            "127.0.0.0x1",
            "::1",
            "[::1",
            "hóst",
            "a b",
            "a\n",
            "-a.b",
            "host:5000:1",
            &long,
        ] {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn docker_hub_has_one_name() {
        for text in ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO"] {
            let host = Host::parse(text).unwrap();
            assert_eq!((host.as_str(), host.endpoint()), ("docker.io", "registry-1.docker.io"));
        }
    }

    #[test]
    fn the_scheme_in_front_is_a_hint() {
        let named = |text| NamedHost::parse(text).map(|named| (named.host.to_string(), named.plain_http));
        assert_eq!(named("http://reg:5000/"), Ok(("reg:5000".to_owned(), true)));
        assert_eq!(named("https://reg"), Ok(("reg".to_owned(), false)));
        assert_eq!(named("reg:1"), Ok(("reg:1".to_owned(), false)));
        assert!(named("ftp://reg").is_err() && named("http://reg/path").is_err());
    }

    #[test]
    fn loopback_is_known_by_name() {
        let loopback = |text| Host::parse(text).unwrap().is_loopback();
        assert!(loopback("localhost") && loopback("127.8.0.1:5000") && loopback("[::1]:5000"));
        assert!(!loopback("localhost.example") && !loopback("10.0.0.1"));
    }
}
