//! `openfaas.max_inflight`: so many requests with a build at once, the next one refused as by the real builder.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use kiln_auth::{Place, Places};

use super::dialect::{Dialect, Fault};
use crate::rescue::retry_after;

/// When to try again, in seconds: about what a small build takes.
const AFTER: u64 = 10;

/// Places for requests, if they are counted at all.
#[derive(Clone, Debug)]
pub struct InFlightBound(Option<Counted>);

#[derive(Clone, Debug)]
struct Counted {
    most: usize,
    places: Places,
}

/// All places are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowded {
    most: usize,
}

impl InFlightBound {
    /// So many at once; 0 is any number.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self((most > 0).then(|| Counted { most, places: Places::new(most) }))
    }

    /// Whether there is a place, which somebody else may take before.
    pub(super) fn look(&self) -> Result<(), Crowded> {
        match &self.0 {
            Some(Counted { most, places }) if places.left(&()) == 0 => Err(Crowded { most: *most }),
            _ => Ok(()),
        }
    }

    /// Takes a place where they are counted.
    pub(super) fn take(&self) -> Result<Option<Place>, Crowded> {
        let Some(Counted { most, places }) = &self.0 else { return Ok(None) };
        places.take(()).map(Some).ok_or(Crowded { most: *most })
    }
}

impl Crowded {
    /// The real one's answer, the same in every dialect, with a word on when to come back.
    pub(super) fn answer(self) -> Response {
        let text = format!("Concurrent request limit exceeded. Max concurrent requests: {}\n", self.most);
        let fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, text);
        let mut answer = retry_after(Dialect::Text.fault(&fault), AFTER);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

/// Before a readiness probe: while all places are taken, whoever balances is to ask another replica.
pub(super) async fn ready(State(bound): State<InFlightBound>, request: Request, next: Next) -> Response {
    match bound.look() {
        Ok(()) => next.run(request).await,
        Err(crowded) => {
            let fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, format!("{} builds are under way\n", crowded.most));
            Dialect::Text.fault(&fault).into_response()
        }
    }
}
