//! Where CouchDB is, and who Kiln is there.

use http::Uri;
use secrecy::SecretString;

use crate::{http_client::TlsError, lookups::LookupLimits, plain_http::leaves_the_installation};

/// How to reach CouchDB.
#[derive(Clone)]
pub struct CouchDbConfig {
    /// `http://host:port` or `https://host:port`.
    pub url: Uri,
    /// An account that may read both databases.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// Whether subjects are found by the view that [`Index::all`](super::Index::all) has, instead of by
    /// reading all of them.
    pub view: bool,
    /// Takes a URL beyond the installation's own network that is plain HTTP, which shows the password.
    pub allow_plain_http: bool,
    /// What bounds a lookup.
    pub limits: LookupLimits,
}

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCouchDbConfig {
    /// There is no password.
    #[error("COUCHDB_ADMIN_PASSWORD is not set; there is no default for it")]
    PasswordMissing,
    /// User and password make no header.
    #[error("COUCHDB_ADMIN_USER and COUCHDB_ADMIN_PASSWORD make no Basic credentials")]
    Credentials,
    /// Host and port make no URL.
    #[error("COUCHDB_SERVICE_HOST and COUCHDB_SERVICE_PORT make no http or https URL: {0}")]
    Url(String),
    /// The password would cross networks in the clear.
    #[error("{0} is plain http, which shows the password on the way; use https://, or set allow_plain_http = true")]
    PlainHttp(Uri),
    /// No client for it can be made.
    #[error("CouchDB can't be asked by https")]
    Tls(#[from] TlsError),
}

impl CouchDbConfig {
    /// Reads the variables of the OpenServerless deployer: `COUCHDB_SERVICE_HOST` (`localhost`; may
    /// begin with `https://`), `COUCHDB_SERVICE_PORT` (5984), `COUCHDB_ADMIN_USER`
    /// (`whisk_admin`), `COUCHDB_ADMIN_PASSWORD` (required). An empty one counts as not set.
    ///
    /// # Errors
    /// When the password is missing, or host and port make no URL.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidCouchDbConfig> {
        let set = |name| variable(name).filter(|value| !value.trim().is_empty());
        let password = set("COUCHDB_ADMIN_PASSWORD").ok_or(InvalidCouchDbConfig::PasswordMissing)?;
        let host = set("COUCHDB_SERVICE_HOST").unwrap_or_else(|| "localhost".to_owned());
        let port = set("COUCHDB_SERVICE_PORT").unwrap_or_else(|| "5984".to_owned());
        Ok(Self {
            url: url(&host, &port)?,
            user: set("COUCHDB_ADMIN_USER").unwrap_or_else(|| "whisk_admin".to_owned()),
            password: password.into(),
            view: false,
            allow_plain_http: false,
            limits: LookupLimits::default(),
        })
    }

    /// Checks how the password would get there.
    pub(super) fn check(&self) -> Result<(), InvalidCouchDbConfig> {
        if leaves_the_installation(&self.url) && !self.allow_plain_http {
            return Err(InvalidCouchDbConfig::PlainHttp(self.url.clone()));
        }
        Ok(())
    }
}

fn url(host: &str, port: &str) -> Result<Uri, InvalidCouchDbConfig> {
    let (scheme, host) = host.split_once("://").unwrap_or(("http", host));
    let bare_ipv6 = host.contains(':') && !host.starts_with('[');
    let text = if bare_ipv6 { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") };
    match text.parse::<Uri>() {
        Ok(uri) if matches!(scheme, "http" | "https") && uri.port().is_some() && uri.path() == "/" => Ok(uri),
        _ => Err(InvalidCouchDbConfig::Url(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(variables: &[(&str, &str)]) -> Result<String, InvalidCouchDbConfig> {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        CouchDbConfig::from_variables(find).map(|config| format!("{} {}", config.url, config.user))
    }

    #[test]
    fn the_deployers_variables_and_defaults_are_understood() {
        let password = ("COUCHDB_ADMIN_PASSWORD", "p");
        for (host, port, url) in [
            ("", "", "http://localhost:5984/ whisk_admin"),
            ("couchdb", "", "http://couchdb:5984/ whisk_admin"),
            ("10.0.0.7", "6000", "http://10.0.0.7:6000/ whisk_admin"),
            ("::1", "", "http://[::1]:5984/ whisk_admin"),
            ("https://couch.example", "6984", "https://couch.example:6984/ whisk_admin"),
        ] {
            let variables = [password, ("COUCHDB_SERVICE_HOST", host), ("COUCHDB_SERVICE_PORT", port)];
            assert_eq!(url_of(&variables).ok().as_deref(), Some(url), "{host} {port}");
        }
    }

    #[test]
    fn the_password_crosses_no_foreign_network_in_the_clear_unless_that_is_meant() {
        for (host, allow_plain_http, good) in [
            ("couch.example", false, false),
            ("couch.example", true, true),
            ("https://couch.example", false, true),
            ("couchdb", false, true),
            ("10.96.0.7", false, true),
        ] {
            let variable = |name: &str| match name {
                "COUCHDB_SERVICE_HOST" => Some(host.to_owned()),
                "COUCHDB_ADMIN_PASSWORD" => Some("p".to_owned()),
                _ => None,
            };
            let config = CouchDbConfig::from_variables(variable).unwrap();
            assert_eq!(CouchDbConfig { allow_plain_http, ..config }.check().is_ok(), good, "{host}");
        }
    }

    #[test]
    fn what_makes_no_url_and_a_missing_password_are_refused() {
        let password = ("COUCHDB_ADMIN_PASSWORD", "p");
        assert!(matches!(url_of(&[]), Err(InvalidCouchDbConfig::PasswordMissing)));
        for (host, port) in [("ftp://h", "1"), ("h", "x"), ("h/path", "1"), ("a b", "1"), ("h", "70000")] {
            let variables = [password, ("COUCHDB_SERVICE_HOST", host), ("COUCHDB_SERVICE_PORT", port)];
            assert!(matches!(url_of(&variables), Err(InvalidCouchDbConfig::Url(_))), "{host} {port}");
        }
    }
}
