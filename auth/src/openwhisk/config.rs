//! Where the OpenWhisk API is.

use http::Uri;

use crate::{http_client::TlsError, lookups::LookupLimits};

/// The path that lists a caller's namespaces.
const NAMESPACES: &str = "/api/v1/namespaces";

/// How to reach an OpenWhisk.
#[derive(Clone, Debug)]
pub struct OpenWhiskConfig {
    /// The API host, as `wsk property get --apihost` shows it.
    pub namespaces: Uri,
    /// Authorities to trust instead of the system's, PEM.
    pub ca: Option<Vec<u8>>,
    /// What bounds a lookup.
    pub limits: LookupLimits,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOpenWhiskConfig {
    /// The API host makes no URL.
    #[error("{0:?} is no API host; it is host, host:port, or either behind http:// or https://")]
    ApiHost(String),
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
                Ok(Self { namespaces, ca: None, limits: LookupLimits::default() })
            }
            _ => Err(InvalidOpenWhiskConfig::ApiHost(api_host.to_owned())),
        }
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
}
