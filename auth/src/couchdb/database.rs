//! The one request that Kiln makes to CouchDB: `POST /<database>/_find`.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use secrecy::{ExposeSecret, zeroize::Zeroizing};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tower::BoxError;

use super::{CouchDbConfig, InvalidCouchDbConfig};

/// Node, and with it express-pouchdb, closes idle connections after 5 s; going first avoids sending a
/// question into one that is being closed.
const IDLE: Duration = Duration::from_secs(4);

/// CouchDB doesn't answer, or not as CouchDB does. No text of an answer is repeated: it holds secrets.
#[derive(Debug, thiserror::Error)]
pub enum CouchDbError {
    /// No connection, or it broke.
    #[error("CouchDB at {url} can't be reached; is COUCHDB_SERVICE_HOST right, and is it up?")]
    Unreachable {
        /// Where it should be.
        url: Uri,
        /// What happened.
        source: legacy::Error,
    },
    /// It refuses the question.
    #[error("CouchDB answers {status} about {database}{}", hint(*status))]
    Status {
        /// Which database was asked.
        database: &'static str,
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer breaks off or is too long.
    #[error("CouchDB's answer about {database} can't be read")]
    Body {
        /// Which database was asked.
        database: &'static str,
        /// What happened.
        source: BoxError,
    },
    /// The answer isn't what it should be.
    #[error("CouchDB's answer about {database} is not as expected, at column {column} of line {line}")]
    Format {
        /// Which database was asked.
        database: &'static str,
        /// Where, counted from 1.
        line: usize,
        /// Where in the line, counted from 1.
        column: usize,
    },
    /// The lookup took too long.
    #[error("CouchDB did not answer within {0:?}")]
    Deadline(Duration),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; are COUCHDB_ADMIN_USER and COUCHDB_ADMIN_PASSWORD right?"
        }
        StatusCode::NOT_FOUND => "; it has no such database",
        _ => "",
    }
}

/// A pool of connections.
pub(super) type Http = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// One database of a CouchDB.
pub(super) struct Database {
    http: Http,
    name: &'static str,
    find: Uri,
    authorization: HeaderValue,
    longest: usize,
}

#[derive(Deserialize)]
struct Found<D> {
    docs: Vec<D>,
}

impl Database {
    /// The database `name` of the CouchDB that `config` describes.
    pub(super) fn new(http: Http, config: &CouchDbConfig, name: &'static str) -> Result<Self, InvalidCouchDbConfig> {
        let text = format!("{}{name}/_find", config.url);
        let find = text.parse().map_err(|_| InvalidCouchDbConfig::Url(text))?;
        Ok(Self { http, name, find, authorization: basic(config)?, longest: config.limits.answer })
    }

    /// The documents that a Mango query selects.
    pub(super) async fn find<D: DeserializeOwned>(&self, query: &Value) -> Result<Vec<D>, CouchDbError> {
        let database = self.name;
        let mut request = Request::new(Full::from(query.to_string()));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.find);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));

        let unreachable = |source| CouchDbError::Unreachable { url: self.find.clone(), source };
        let response = self.http.request(request).await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(CouchDbError::Status { database, status: response.status() });
        }
        let body = Limited::new(response.into_body(), self.longest).collect().await;
        let body = body.map_err(|source| CouchDbError::Body { database, source })?.to_bytes();
        let found: Found<D> = serde_json::from_slice(&body).map_err(|error| {
            // Its own text may quote a value.
            CouchDbError::Format { database, line: error.line(), column: error.column() }
        })?;
        Ok(found.docs)
    }
}

/// A pool of connections to the CouchDB that `config` describes.
pub(super) fn pool(config: &CouchDbConfig) -> Result<Http, InvalidCouchDbConfig> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(config.limits.connect));
    tcp.set_nodelay(true);
    // The wrapper around it decides between http and https.
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls(&config.url)?).https_or_http().enable_http1();
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(config.limits.lookups)
        .build(connector.wrap_connector(tcp)))
}

/// The system's authorities for an https URL. Reading them costs time and memory, and plain http
/// asks none.
fn tls(url: &Uri) -> Result<ClientConfig, InvalidCouchDbConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(InvalidCouchDbConfig::Tls)?;
    let builder = if url.scheme_str() == Some("https") {
        builder.with_native_roots().map_err(InvalidCouchDbConfig::Authorities)?
    } else {
        builder.with_root_certificates(RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

fn basic(config: &CouchDbConfig) -> Result<HeaderValue, InvalidCouchDbConfig> {
    let plain = Zeroizing::new(format!("{}:{}", config.user, config.password.expose_secret()));
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(plain.as_bytes())));
    let mut value = HeaderValue::from_str(&text).map_err(|_| InvalidCouchDbConfig::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}
