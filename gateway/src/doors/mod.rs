//! HTTP surfaces, each with its own dialect for requests, answers and errors.

mod base64_text;
pub mod native;
pub mod openfaas;
pub mod openserverless;
mod oversight;
pub mod page;
pub mod probes;

use http::{Method, Request};

use crate::{
    builds::Builds,
    ledger::{Build, Delivery, LedgerError, Style, Webhook},
    webhooks::Message,
};

/// The door that a path belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Door {
    /// The builder API of OpenServerless.
    OpenServerless,
    /// The builder API of OpenFaaS; where it is off, its paths are as unknown as others.
    OpenFaas,
    /// Kiln's own API.
    Native,
    /// The page for people.
    Page,
    /// Probes, and paths that no door knows.
    Plain,
}

impl Door {
    /// Decides by the path, and at the root by the method, so that errors of any layer can speak the right dialect.
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let below =
            |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below("/system") || below("/api/v1/build") {
            Self::OpenServerless
        } else if below("/v1") || path == native::DOCUMENT {
            Self::Native
        } else if page::has(request.uri(), reads) {
            Self::Page
        } else if openfaas::PATHS.contains(&path) {
            Self::OpenFaas
        } else {
            Self::Plain
        }
    }

    /// The one that was noted when the request arrived.
    #[must_use]
    pub fn noted<B>(request: &Request<B>) -> Self {
        request.extensions().get().copied().unwrap_or(Self::Plain)
    }

    /// The word in metrics and audit lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenServerless => "openserverless",
            Self::OpenFaas => "openfaas",
            Self::Native => "native",
            Self::Page => "page",
            Self::Plain => "plain",
        }
    }
}

/// What a webhook is told of a build, in the words of the door that it was asked for at.
pub(crate) async fn told(
    builds: &Builds,
    build: &Build,
    delivery: &Delivery,
    webhook: &Webhook,
) -> Result<Message, LedgerError> {
    match webhook.style {
        Style::CloudEvents => Ok(native::told(builds, build, delivery)),
        Style::OfBuilder | Style::Pro => openfaas::told(builds, build, webhook).await,
    }
}
