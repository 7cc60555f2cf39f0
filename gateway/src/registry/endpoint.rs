//! One registry as it is asked: its URLs, its answers within bounds, and what its failures mean.

use std::error::Error as _;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response};

use super::{address::AddressRefused, error::RegistryError, host::Host, manner::Manner};

/// What an error's body may have, in bytes.
const ERROR_BODY: usize = 16 * 1024;

/// One registry, and how it is reached.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    pub(super) manner: Manner,
    pub(super) client: Client,
    /// Whether it may have any address, and name a token service that has.
    pub(super) trusted: bool,
}

impl Endpoint {
    /// The URL of `path` below the registry's API. `path` is made of parsed names only.
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.manner.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/v2/{path}", self.host.endpoint())
    }

    /// What a failed request means.
    pub(super) fn failed(&self, error: reqwest::Error) -> RegistryError {
        let mut source = error.source();
        while let Some(cause) = source {
            if cause.is::<AddressRefused>() {
                return RegistryError::Refused { host: self.host.clone() };
            }
            source = cause.source();
        }
        let cause = match () {
            () if error.is_connect() && error.is_timeout() => "no connection in time".to_owned(),
            () if error.is_timeout() => "no answer in time".to_owned(),
            // The last cause says it best; the URLs in the first ones may be signed.
            () => innermost(&error.without_url()),
        };
        RegistryError::Unavailable { host: self.host.clone(), cause }
    }

    /// What an answer other than the one hoped for means.
    pub(super) async fn refusal(&self, what: &str, response: Response) -> RegistryError {
        let (host, what) = (self.host.clone(), what.to_owned());
        let status = response.status();
        let why = self.read(response, "the error", ERROR_BODY).await.ok().and_then(|body| complaint(&body));
        let said =
            why.as_ref().map_or_else(|| format!("it answered {status}"), |why| format!("it answered {status}: {why}"));
        match status.as_u16() {
            404 => RegistryError::NotFound { host, what },
            401 | 403 => RegistryError::Forbidden { host, what, why },
            408 | 429 | 500.. => RegistryError::Unavailable { host, cause: said },
            _ => RegistryError::Invalid { host, what, cause: said },
        }
    }

    /// Reads an answer's body, at most `limit` bytes of it.
    pub(super) async fn read(&self, mut response: Response, what: &str, limit: usize) -> Result<Bytes, RegistryError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > limit {
                return Err(self.invalid(what, format!("it is larger than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    pub(super) fn invalid(&self, what: &str, cause: impl Into<String>) -> RegistryError {
        RegistryError::Invalid { host: self.host.clone(), what: what.to_owned(), cause: cause.into() }
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The message of the specification's error body, on one line and not too long.
fn complaint(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = body.pointer("/errors/0/message").or_else(|| body.pointer("/details"))?.as_str()?;
    let message: String = message.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!message.is_empty()).then_some(message)
}

#[cfg(test)]
mod tests {
    #[test]
    fn complaints_are_short_and_on_one_line() {
        let complaint =
            |message: &str| super::complaint(format!(r#"{{"errors":[{{"message":"{message}"}}]}}"#).as_bytes());
        assert_eq!(complaint(r"a\nb\u0000"), Some("a b ".to_owned()));
        assert_eq!(complaint(&"x".repeat(1000)).unwrap().len(), 200);
        assert_eq!(super::complaint(b"<html>"), None);
    }
}
