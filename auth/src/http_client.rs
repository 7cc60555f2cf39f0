//! The client by which providers ask over HTTP: one request, one answer of bounded length.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::{SecretString, zeroize::Zeroizing};
use tower::BoxError;

/// Node, and with it express-pouchdb, closes idle connections after 5 s; going first avoids sending a
/// question into one that is being closed.
const IDLE: Duration = Duration::from_secs(4);

/// A pool of connections. It follows no redirect: a credential goes to the configured host or nowhere.
#[derive(Clone)]
pub(crate) struct Http {
    pool: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    longest: usize,
}

/// What bounds a client.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// How long to wait for a connection.
    pub(crate) connect: Duration,
    /// How many connections are kept.
    pub(crate) idle: usize,
    /// How long an answer may be, in bytes.
    pub(crate) answer: usize,
}

/// A client that speaks TLS can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system's certificate authorities can't be read.
    #[error("the system's certificate authorities can't be read")]
    Authorities(#[source] io::Error),
    /// The file of authorities has none.
    #[error("the ca_file holds no certificate in PEM form")]
    NoCertificate,
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up")]
    Library(#[source] rustls::Error),
}

// === impl Http ===

impl Http {
    /// A client for `url`, which is plain or trusts `ca` (PEM), or else the system's authorities.
    pub(crate) fn new(url: &Uri, ca: Option<&[u8]>, bounds: Bounds) -> Result<Self, TlsError> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(bounds.connect));
        tcp.set_nodelay(true);
        // The wrapper around it decides between http and https.
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(url, ca)?).https_or_http().enable_http1();
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(bounds.idle)
            .build(connector.wrap_connector(tcp));
        Ok(Self { pool, longest: bounds.answer })
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        self.pool.request(request).await
    }

    /// Reads the body of an answer, to its end or to the bound.
    pub(crate) async fn body(&self, response: Response<Incoming>) -> Result<Bytes, BoxError> {
        Ok(Limited::new(response.into_body(), self.longest).collect().await?.to_bytes())
    }
}

/// `Authorization` with a secret that no log shows; `None` if it can't stand in a header.
pub(crate) fn authorization(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("{scheme} {secret}"));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A secret's file, without the line's end that editors leave.
pub(crate) fn secret_file(path: &std::path::Path) -> io::Result<SecretString> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

/// Authorities for an https URL. Reading the system's costs time and memory, and plain http asks none.
fn tls(url: &Uri, ca: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(TlsError::Library)?;
    let builder = match ca {
        Some(pem) => builder.with_root_certificates(authorities(pem)?),
        None if url.scheme_str() == Some("https") => builder.with_native_roots().map_err(TlsError::Authorities)?,
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).flatten().collect();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(TlsError::NoCertificate) } else { Ok(roots) }
}
