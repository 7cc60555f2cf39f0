//! What is wrong with a request, as problem details.

use std::fmt::Display;

use axum::{
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;

use crate::{
    builds::{NoRetry, Refused},
    ledger::LedgerError,
    rescue::{self, PLACES_AFTER, problem, retry_after},
};

/// A request that can't be answered as it was meant.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    /// A sentence for the caller.
    text: String,
    /// When to try again, in seconds.
    retry_after: Option<u64>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None }
    }

    /// Worth another try, once there are places again.
    pub(super) fn busy(status: StatusCode, text: impl Into<String>) -> Self {
        Self { retry_after: Some(PLACES_AFTER), ..Self::new(status, text) }
    }

    pub(super) fn bad(text: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text.to_string())
    }

    /// Of another's build, too: nobody learns that there is one.
    pub(super) fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such build")
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let response = problem(self.status, &self.text);
        match self.retry_after {
            Some(seconds) => retry_after(response, seconds),
            None => response,
        }
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "the ledger failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match rescue::refused(&refused) {
            Some(status) => Self::busy(status, refused.to_string()),
            None => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        }
    }
}

impl From<NoRetry> for Fault {
    fn from(error: NoRetry) -> Self {
        let status = match error {
            NoRetry::Ledger(error) => return error.into(),
            NoRetry::OutOfScope(_) => StatusCode::FORBIDDEN,
            NoRetry::Target(_) | NoRetry::Destination(_) => StatusCode::BAD_REQUEST,
            NoRetry::NotEnded | NoRetry::Archive | NoRetry::Context | NoRetry::FileGone => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

/// The query, or what is wrong with it.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Fault> {
    query.map(|Query(query)| query).map_err(|rejection| Fault::new(rejection.status(), rejection.body_text()))
}
