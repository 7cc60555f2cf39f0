//! Where the OpenWhisk API is.

use http::Uri;

use crate::{http_client::TlsError, lookups::LookupLimits, plain_http::leaves_the_installation};

/// The path that lists a caller's namespaces.
const NAMESPACES: &str = "/api/v1/namespaces";

/// How to reach an OpenWhisk.
#[derive(Clone, Debug)]
pub struct OpenWhiskConfig {
    /// The API host, as `wsk property get --apihost` shows it.
    pub namespaces: Uri,
    /// Authorities to trust instead of the system's, PEM.
    pub ca: Option<Vec<u8>>,
    /// Takes an API host beyond the installation's own network by plain HTTP, which shows callers' tokens.
    pub allow_plain_http: bool,
    /// What bounds a lookup.
    pub limits: LookupLimits,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOpenWhiskConfig {
    /// The API host makes no URL.
    #[error("{0:?} is no API host; it is host, host:port, or either behind http:// or https://")]
    ApiHost(String),
    /// Tokens would cross networks in the clear.
    #[error("{0} is plain http, which shows callers' tokens on the way; use https, or set allow_plain_http = true")]
    PlainHttp(Uri),
    /// No client for it can be made.
    #[error("OpenWhisk can't be asked by https")]
    Tls(#[from] TlsError),
}

impl OpenWhiskConfig {
    /// Takes an API host: a name, with a port or without, by https unless it says `http://`.
    ///
    /// # Errors
    /// When that is no URL.
    pub fn at(api_host: &str) -> Result<Self, InvalidOpenWhiskConfig> {
        let (scheme, host) = api_host.split_once("://").unwrap_or(("https", api_host));
        let host = host.strip_suffix('/').unwrap_or(host);
        let plain = !host.is_empty() && !host.contains(['/', '?', '#', '@']);
        let namespaces = format!("{scheme}://{host}{NAMESPACES}").parse();
        match namespaces {
            Ok(namespaces) if plain && matches!(scheme, "http" | "https") => {
                Ok(Self { namespaces, ca: None, allow_plain_http: false, limits: LookupLimits::default() })
            }
            _ => Err(InvalidOpenWhiskConfig::ApiHost(api_host.to_owned())),
        }
    }

    /// Checks how tokens would get there.
    pub(super) fn check(&self) -> Result<(), InvalidOpenWhiskConfig> {
        if leaves_the_installation(&self.namespaces) && !self.allow_plain_http {
            return Err(InvalidOpenWhiskConfig::PlainHttp(self.namespaces.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_hosts_are_read_as_wsk_reads_them() {
        for (api_host, url) in [
            ("whisk.example", "https://whisk.example/api/v1/namespaces"),
            ("whisk.example:8443", "https://whisk.example:8443/api/v1/namespaces"),
            ("https://whisk.example/", "https://whisk.example/api/v1/namespaces"),
            ("http://localhost:3233", "http://localhost:3233/api/v1/namespaces"),
        ] {
            assert_eq!(OpenWhiskConfig::at(api_host).unwrap().namespaces, url, "{api_host}");
        }
        for api_host in ["", "http://", "ftp://h", "h/path", "h?q", "u@h", "a b"] {
            assert!(OpenWhiskConfig::at(api_host).is_err(), "{api_host}");
        }
    }

    #[test]
    fn tokens_cross_no_foreign_network_in_the_clear_unless_that_is_meant() {
        for (api_host, allow_plain_http, good) in [
            ("http://whisk.example", false, false),
            ("http://whisk.example", true, true),
            ("http://controller:3233", false, true),
            ("whisk.example", false, true),
        ] {
            let config = OpenWhiskConfig { allow_plain_http, ..OpenWhiskConfig::at(api_host).unwrap() };
            assert_eq!(config.check().is_ok(), good, "{api_host}");
        }
    }
}
