//! The requests that Kiln makes to CouchDB: `POST /<database>/_find`, or a view instead.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper_util::client::legacy;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, zeroize::Zeroizing};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tower::BoxError;

use super::{CouchDbConfig, Index, InvalidCouchDbConfig, Made};
use crate::http_client::{Http, authorization};

/// CouchDB doesn't answer, or not as CouchDB does. No text of an answer is repeated: it holds secrets.
#[derive(Debug, thiserror::Error)]
pub enum CouchDbError {
    /// No connection, or it broke.
    #[error("CouchDB at {url} can't be reached; is COUCHDB_SERVICE_HOST right, and is it up?")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        source: legacy::Error,
    },
    /// The database's address can't be written.
    #[error("{database} has no address")]
    Url {
        /// Which database should be asked.
        database: &'static str,
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

/// One database of a CouchDB.
pub(super) struct Database {
    http: Http,
    name: &'static str,
    root: String,
    authorization: HeaderValue,
}

#[derive(Deserialize)]
struct Found<D> {
    docs: Vec<D>,
}

#[derive(Deserialize)]
struct Rows<D> {
    rows: Vec<Row<D>>,
}

#[derive(Deserialize)]
struct Row<D> {
    doc: Option<D>,
}

impl Database {
    /// The database `name` of the CouchDB that `config` describes.
    pub(super) fn new(http: Http, config: &CouchDbConfig, name: &'static str) -> Result<Self, InvalidCouchDbConfig> {
        Ok(Self { http, name, root: format!("{}{name}", config.url), authorization: basic(config)? })
    }

    /// The documents that a Mango query selects.
    pub(super) async fn find<D: DeserializeOwned>(&self, query: &Value) -> Result<Vec<D>, CouchDbError> {
        let found: Found<D> = self.expect(Method::POST, "_find", Some(query)).await?;
        Ok(found.docs)
    }

    /// The documents under a key of a view. The key ends in the server's log: it must be no secret.
    pub(super) async fn view<D: DeserializeOwned>(&self, view: &str, key: &str) -> Result<Vec<D>, CouchDbError> {
        let key = Value::from(key).to_string();
        let path = format!("{view}?include_docs=true&key={}", utf8_percent_encode(&key, NON_ALPHANUMERIC));
        let found: Rows<D> = self.expect(Method::GET, &path, None).await?;
        Ok(found.rows.into_iter().filter_map(|row| row.doc).collect())
    }

    /// Makes an index, unless there is one.
    pub(super) async fn make(&self, index: &Index) -> Result<Made, CouchDbError> {
        let (status, answer) = self.request(index.method.clone(), index.path, Some(&index.body)).await?;
        match status {
            StatusCode::CONFLICT => {
                let there: Value = self.expect(Method::GET, index.path, None).await?;
                Ok(if there["views"] == index.body["views"] { Made::Exists } else { Made::Differs })
            }
            StatusCode::OK | StatusCode::CREATED => {
                let answer: Value = self.parse(&answer)?;
                Ok(if answer["result"] == "exists" { Made::Exists } else { Made::Created })
            }
            status => Err(CouchDbError::Status { database: self.name, status }),
        }
    }

    async fn expect<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<A, CouchDbError> {
        match self.request(method, path, body).await? {
            (StatusCode::OK, answer) => self.parse(&answer),
            (status, _) => Err(CouchDbError::Status { database: self.name, status }),
        }
    }

    fn parse<A: DeserializeOwned>(&self, answer: &[u8]) -> Result<A, CouchDbError> {
        serde_json::from_slice(answer).map_err(|error| {
            // Its own text may quote a value.
            CouchDbError::Format { database: self.name, line: error.line(), column: error.column() }
        })
    }

    /// Sends a question. Of an answer that is no success nothing is read.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), CouchDbError> {
        let database = self.name;
        let text = format!("{}/{path}", self.root);
        let url: Uri = text.parse().map_err(|_| CouchDbError::Url { database })?;
        let mut request = Request::new(Full::from(body.map(Value::to_string).unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = url;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));

        let unreachable = |source| CouchDbError::Unreachable { url: self.root.clone(), source };
        let response = self.http.send(request).await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            return Ok((status, Bytes::new()));
        }
        let body = self.http.body(response).await.map_err(|source| CouchDbError::Body { database, source })?;
        Ok((status, body))
    }
}

fn basic(config: &CouchDbConfig) -> Result<HeaderValue, InvalidCouchDbConfig> {
    let plain = Zeroizing::new(format!("{}:{}", config.user, config.password.expose_secret()));
    let encoded = Zeroizing::new(BASE64.encode(plain.as_bytes()));
    authorization("Basic", &encoded).ok_or(InvalidCouchDbConfig::Credentials)
}
