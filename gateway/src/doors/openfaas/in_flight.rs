//! `openfaas.max_inflight`: so many builds of this door at once, the next one refused as by the real builder.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use kiln_auth::{Place, Places, UserName};

use super::dialect::{Dialect, Fault};
use crate::rescue::retry_after;

/// When to try again, in seconds: about what a small build takes.
const AFTER: u64 = 10;

/// Places for builds, if they are counted at all.
#[derive(Clone, Debug)]
pub struct InFlightBound(Option<Counted>);

#[derive(Clone, Debug)]
struct Counted {
    most: usize,
    all: Places,
    most_of_one: usize,
    of_one: Places<UserName>,
}

/// A build's place; given back by being dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    _places: Option<(Place, Place<UserName>)>,
}

/// All places are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowded {
    most: usize,
}

impl InFlightBound {
    /// So many at once; 0 is any number. Where several callers are told apart, none of them takes the
    /// last place.
    #[must_use]
    pub fn of(most: usize, several: bool) -> Self {
        let most_of_one = if several { most.saturating_sub(1).max(1) } else { most };
        let counted = || Counted { most, all: Places::new(most), most_of_one, of_one: Places::new(most_of_one) };
        Self((most > 0).then(counted))
    }

    /// Whether there is a place, which somebody else may take before.
    pub(super) fn look(&self) -> Result<(), Crowded> {
        match &self.0 {
            Some(Counted { most, all, .. }) if all.left(&()) == 0 => Err(Crowded { most: *most }),
            _ => Ok(()),
        }
    }

    /// Takes a place for a build of this user's, where they are counted.
    pub(super) fn take(&self, user: &UserName) -> Result<InFlight, Crowded> {
        let Some(Counted { most, all, most_of_one, of_one }) = &self.0 else { return Ok(InFlight { _places: None }) };
        let of_one = of_one.take(user.clone()).ok_or(Crowded { most: *most_of_one })?;
        let place = all.take(()).ok_or(Crowded { most: *most })?;
        Ok(InFlight { _places: Some((place, of_one)) })
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
