//! Connections to registries: per host as the table says, with deadlines, and guarded where a
//! caller chose the host.
//!
//! On `reqwest` itself, not `oci-client`: that crate keeps credentials by host for the whole process,
//! so that the first tenant's would answer for all; reads answers without a bound; hands
//! credentials to whatever realm is named; and has no place for a resolver that checks addresses.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Certificate, Client, NoProxy, Proxy, Url};

use super::{
    address::{Guarded, Reach, SystemNames, is_public, may_be_asked, redirects},
    destination::{DEFAULT_HOST, ProcessRegistry},
    endpoint::Endpoint,
    error::RegistryError,
    host::{Host, InvalidHost},
    manner::Manner,
    session::matches,
    table::{Registries, RegistrySettings},
};

/// How Kiln reaches the network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The proxy for plain HTTP.
    pub http_proxy: Option<String>,
    /// The proxy for HTTPS.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas; loopback always is.
    pub no_proxy: Option<String>,
    /// Certificate authorities, PEM, trusted beside the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// How long a registry may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// To accept a connection, the TLS handshake included.
    pub connect: Duration,
    /// To answer a request to its last byte.
    pub request: Duration,
}

/// The client can't be made of these settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `registry.host` names no registry.
    #[error("registry.host: {0}")]
    Host(#[from] InvalidHost),
    /// A host's `ca_file` can't be read.
    #[error("registries.\"{host}\".ca_file {path} can't be read: {source}")]
    Unreadable {
        /// The registry.
        host: Host,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificates or proxies aren't what they should be.
    #[error("{what} can't be used: {source}")]
    Unusable {
        /// The setting.
        what: String,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

pub(super) struct Transport {
    registries: Registries,
    /// Patterns of hosts that may have any address.
    trusted: Vec<String>,
    /// For hosts without a client of their own.
    usual: Clients,
    /// For pushes to hosts that requests name, where those may show any certificate.
    unverified: Option<Clients>,
    /// For hosts whose certificates need more than the usual, or less than others'.
    own: HashMap<Host, Client>,
}

struct Clients {
    /// For hosts that the operator has named.
    open: Client,
    /// For hosts that anybody may have named.
    guarded: Client,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(30) }
    }
}

// === impl Transport ===

impl Transport {
    pub(super) fn new(
        process: &ProcessRegistry,
        mut registries: Registries,
        network: &Network,
    ) -> Result<Self, SetupError> {
        registries.name(&Host::parse(DEFAULT_HOST)?, true);
        if let Some(named) = process.named_host()? {
            registries.name(&named.host, named.plain_http);
        }
        let mirrors: Vec<Host> = registries.iter().flat_map(|(_, settings)| settings.mirrors.clone()).collect();
        for mirror in mirrors {
            registries.name(&mirror, false);
        }
        let mut own = HashMap::new();
        for (host, settings) in registries.iter().filter(|(_, s)| s.skip_verify || s.ca_file.is_some()) {
            own.insert(host.clone(), client(network, Some((host, settings)), false, settings.skip_verify)?);
        }
        let usual = Clients::new(network, false)?;
        let unverified = process.insecure.then(|| Clients::new(network, true)).transpose()?;
        Ok(Self { registries, trusted: process.allowed_user_registries.clone(), usual, unverified, own })
    }

    /// Whether it is for `host` itself to say how it is spoken to.
    pub(super) fn may_be_insecure(&self, host: &Host) -> bool {
        self.unverified.is_some() && self.registries.get(host).is_none()
    }

    /// The table, completed by what the installation's own settings imply.
    pub(super) fn registries(&self) -> &Registries {
        &self.registries
    }

    /// How to reach `host`; `manner` decides on verification where it is for `host` itself to say.
    pub(super) fn endpoint(&self, host: &Host, manner: Manner) -> Result<Endpoint, RegistryError> {
        let trusted = self.trusts(host);
        if !trusted && (host.is_loopback() || host.address().is_some_and(|at| !is_public(at))) {
            return Err(RegistryError::Refused { host: host.clone() });
        }
        let clients = self.clients(host, manner);
        let client = self.own.get(host).unwrap_or(if trusted { &clients.open } else { &clients.guarded }).clone();
        Ok(Endpoint { host: host.clone(), manner, client, trusted })
    }

    fn clients(&self, host: &Host, manner: Manner) -> &Clients {
        self.unverified.as_ref().filter(|_| manner.skip_verify && self.may_be_insecure(host)).unwrap_or(&self.usual)
    }

    /// The client for the token service that `endpoint` names. It gets credentials, so it must be as
    /// well protected as the registry, and may be as far inside as the registry and no further.
    pub(super) fn token_client(&self, endpoint: &Endpoint, realm: &Url) -> Result<Client, RegistryError> {
        let invalid = |cause: &str| RegistryError::Invalid {
            host: endpoint.host.clone(),
            what: "the token service".to_owned(),
            cause: cause.to_owned(),
        };
        match realm.scheme() {
            "https" => {}
            "http" if endpoint.manner.plain_http => {}
            _ => return Err(invalid("the registry speaks TLS and its token service doesn't")),
        }
        let authority = realm.port().map_or_else(
            || realm.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", realm.host_str().unwrap_or_default()),
        );
        let host = Host::parse(&authority).map_err(|error| invalid(&error.to_string()))?;
        if host == endpoint.host {
            return Ok(endpoint.client.clone());
        }
        if let Some(client) = self.own.get(&host) {
            return Ok(client.clone());
        }
        if endpoint.trusted || self.trusts(&host) {
            return Ok(self.clients(&host, endpoint.manner).open.clone());
        }
        if host.is_loopback() || !may_be_asked(realm) {
            return Err(RegistryError::Refused { host });
        }
        Ok(self.clients(&host, endpoint.manner).guarded.clone())
    }

    fn trusts(&self, host: &Host) -> bool {
        self.registries.get(host).is_some() || self.trusted.iter().any(|pattern| matches(pattern, host.as_str()))
    }
}

impl Clients {
    fn new(network: &Network, skip_verify: bool) -> Result<Self, SetupError> {
        let of = |guarded| client(network, None, guarded, skip_verify);
        Ok(Self { open: of(false)?, guarded: of(true)? })
    }
}

fn client(
    network: &Network,
    own: Option<(&Host, &RegistrySettings)>,
    guarded: bool,
    skip_verify: bool,
) -> Result<Client, SetupError> {
    let unusable = |what: &str| {
        let what = what.to_owned();
        move |source| SetupError::Unusable { what, source }
    };
    let mut builder = Client::builder()
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(network.deadlines.connect)
        .timeout(network.deadlines.request)
        .redirect(redirects(guarded))
        .referer(false)
        // Proxies are those of the configuration; the library's reading of the environment is switched off.
        .no_proxy();
    let mut proxy_names = Vec::new();
    let no_proxy = format!("{},localhost,127.0.0.0/8,::1", network.no_proxy.as_deref().unwrap_or_default());
    let http = network.http_proxy.as_ref().map(|url| (url, Proxy::http(url)));
    let https = network.https_proxy.as_ref().map(|url| (url, Proxy::https(url)));
    for (url, proxy) in http.into_iter().chain(https) {
        let proxy = proxy.map_err(unusable("the proxy"))?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&no_proxy)));
        proxy_names.extend(Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)));
    }
    if guarded {
        let (names, reach) = (SystemNames, Reach::default());
        builder = builder.dns_resolver(Arc::new(Guarded { names, reach, exempt: proxy_names.into() }));
    }
    if let Some(pem) = &network.extra_ca {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(unusable("the CA bundle"))?);
    }
    if let Some((host, path)) = own.and_then(|(host, settings)| Some((host, settings.ca_file.as_ref()?))) {
        let unreadable = |source| SetupError::Unreadable { host: host.clone(), path: path.clone(), source };
        let pem = std::fs::read(path).map_err(unreadable)?;
        let what = path.display().to_string();
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&pem).map_err(unusable(&what))?);
    }
    builder.tls_danger_accept_invalid_certs(skip_verify).build().map_err(unusable("the TLS set-up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(process: &ProcessRegistry, table: &str) -> Transport {
        Transport::new(process, toml::from_str(table).unwrap(), &Network::default()).unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn what_the_installation_names_is_trusted_and_nothing_else_inside() {
        let process = ProcessRegistry {
            host: Some("http://10.0.0.7:5000".to_owned()),
            allowed_user_registries: vec!["10.1.*".to_owned()],
            ..ProcessRegistry::default()
        };
        let transport = transport(&process, "['10.0.0.8']\n['hub.example']\nmirrors = ['10.0.0.9:5000']");
        for (name, permitted) in [
            ("10.0.0.7:5000", true),
            ("10.0.0.7", false),
            ("10.0.0.8", true),
            ("10.0.0.9:5000", true),
            ("10.1.2.3:443", true),
            ("10.2.0.1", false),
            ("localhost:5000", false),
            ("169.254.169.254", false),
            (DEFAULT_HOST, true),
            ("ghcr.io", true),
        ] {
            assert_eq!(transport.endpoint(&host(name), Manner::default()).is_ok(), permitted, "{name}");
        }
        assert!(transport.registries().plain_http(&host("10.0.0.7:5000")), "as its scheme says");
        assert!(transport.registries().plain_http(&host(DEFAULT_HOST)));
    }

    #[test]
    fn a_token_service_is_no_further_inside_and_no_less_protected_than_its_registry() {
        let transport = transport(&ProcessRegistry::default(), "['inside:5000']\nplain_http = true\n['10.0.0.7']");
        for (registry, plain_http, realm, permitted) in [
            ("public.example", false, "https://auth.example/token", true),
            ("public.example", false, "https://public.example/token", true),
            ("public.example", false, "http://auth.example/token", false),
            ("public.example", false, "ftp://auth.example/token", false),
            ("public.example", false, "https://10.0.0.1/token", false),
            ("public.example", false, "https://127.1/token", false),
            ("public.example", false, "https://localhost/token", false),
            ("public.example", false, "https://[::ffff:10.0.0.1]/token", false),
            ("public.example", false, "https://10.0.0.7/token", true),
            ("inside:5000", true, "http://inside:5001/token", true),
            ("inside:5000", true, "https://10.0.0.1/token", true),
        ] {
            let endpoint = transport.endpoint(&host(registry), Manner { plain_http, ..Manner::default() }).unwrap();
            let client = transport.token_client(&endpoint, &Url::parse(realm).unwrap());
            assert_eq!(client.is_ok(), permitted, "{registry} {realm}");
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let fault = |process: &ProcessRegistry, table: &str, network: &Network| {
            Transport::new(process, toml::from_str(table).unwrap(), network).err().unwrap().to_string()
        };
        let process = ProcessRegistry { host: Some("a/b".to_owned()), ..ProcessRegistry::default() };
        assert!(fault(&process, "", &Network::default()).starts_with("registry.host: \"a/b\" is no registry"));
        let missing = fault(&ProcessRegistry::default(), "['r']\nca_file = '/missing'", &Network::default());
        assert!(missing.starts_with("registries.\"r\".ca_file /missing can't be read"), "{missing}");
        let network = Network { https_proxy: Some("http://".to_owned()), ..Network::default() };
        assert!(fault(&ProcessRegistry::default(), "", &network).starts_with("the proxy can't be used"));
    }
}
