//! What a page can't be made for, or an action not be done, as a page that says so.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::answer;
use crate::{
    builds::{NoRetry, Refused},
    images::ImagesError,
    ledger::LedgerError,
    rescue::{self, PLACES_AFTER, retry_after},
};

/// A request that can't be answered as it was meant.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    text: String,
    retry_after: Option<u64>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None }
    }

    /// Of another's build, too: nobody learns that there is one.
    pub(super) fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is no such build, or no more: finished ones are kept for a while only.")
    }

    /// Another page is behind it.
    pub(super) fn elsewhere() -> Self {
        Self::new(StatusCode::FORBIDDEN, "This form wasn't sent from Kiln's own page. Nothing was done.")
    }

    fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "That is a fault of Kiln's own, and its operator's log has more.")
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let response = answer::error(self.status, &self.text);
        match self.retry_after {
            Some(seconds) => retry_after(response, seconds),
            None => response,
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "the ledger failed");
        Self::internal()
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "a log can't be read");
        Self::internal()
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match rescue::refused(&refused) {
            Some(status) => Self { retry_after: Some(PLACES_AFTER), ..Self::new(status, refused.to_string()) },
            None => Self::internal(),
        }
    }
}

impl From<ImagesError> for Fault {
    fn from(error: ImagesError) -> Self {
        let status = rescue::images(&error);
        let text = match error {
            ImagesError::Missing => "There is no such image, or no more.".to_owned(),
            ImagesError::Ledger(_) => return Self::internal(),
            error => error.to_string(),
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(PLACES_AFTER);
        Self { retry_after, ..Self::new(status, text) }
    }
}

impl From<NoRetry> for Fault {
    fn from(error: NoRetry) -> Self {
        match error {
            NoRetry::Ledger(error) => error.into(),
            error => Self::new(StatusCode::CONFLICT, error.to_string()),
        }
    }
}
