//! `POST …/build/cleanup`: removes the caller's finished builds older than asked.

use axum::{
    Extension,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kiln_auth::{Identity, Origin};
use serde_json::{Map, Value};

use super::{
    OpenServerless,
    envelope::ok,
    fields::{self, Fault, bad},
    internal, require_environment,
};

/// Hours, unless the body says otherwise.
const DEFAULT_AGE: i64 = 24;

pub(super) async fn cleanup(
    State(door): State<OpenServerless>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(fault) = require_environment(&identity, false) {
        return fault.into_response();
    }
    let before = fields::require_json(&headers)
        .and_then(|()| fields::received(body, "The JSON payload is too large."))
        .and_then(|body| before(&body, Timestamp::now()));
    let before = match before {
        Ok(before) => before,
        Err(fault) => return fault.into_response(),
    };
    match door.builds.cleanup(identity.user(), before, origin).await {
        Ok(removed) => ok(StatusCode::OK, &format!("Cleaned up {removed} jobs successfully."), Map::new()),
        Err(error) => internal(&error, "Failed to clean up old build jobs."),
    }
}

fn before(body: &[u8], now: Timestamp) -> Result<Timestamp, Fault> {
    let object = fields::object(body, "No JSON payload provided for cleanup.")?;
    let invalid = || bad("Invalid max_age_hours for cleanup.");
    let hours = match object.get("max_age_hours") {
        None => DEFAULT_AGE,
        Some(value) => hours(value).ok_or_else(invalid)?,
    };
    // A negative age lies in the future: everything that is finished goes, as there.
    let age = hours.checked_mul(3600).map(SignedDuration::from_secs).ok_or_else(invalid)?;
    now.checked_sub(age).map_err(|_| invalid())
}

/// What Python's `int()` makes of a JSON value; its clients send numbers and digits in a string.
fn hours(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(truth) => Some(i64::from(*truth)),
        Value::Number(number) => number.as_i64().or_else(|| {
            let whole = number.as_f64()?.trunc();
            // Exact within the bounds of what an age can be.
            (whole.abs() < 1e15).then_some(whole as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_as_the_real_service_reads_them() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        for (body, want) in [
            ("{}", "2026-01-01T00:00:00Z"),
            (r#"{"max_age_hours":"2"}"#, "2026-01-01T22:00:00Z"),
            (r#"{"max_age_hours":1.9}"#, "2026-01-01T23:00:00Z"),
            (r#"{"max_age_hours":true}"#, "2026-01-01T23:00:00Z"),
            (r#"{"max_age_hours":-1}"#, "2026-01-02T01:00:00Z"),
            (r#"{"max_age_hours":0}"#, "2026-01-02T00:00:00Z"),
        ] {
            assert_eq!(before(body.as_bytes(), now), Ok(want.parse().unwrap()), "{body}");
        }
        for body in [
            r#"{"max_age_hours":"abc"}"#,
            r#"{"max_age_hours":null}"#,
            r#"{"max_age_hours":1e300}"#,
            r#"{"max_age_hours":99999999999999999999}"#,
            r#"{"max_age_hours":9223372036854775807}"#,
            "null",
            "[]",
            "3",
            "{",
            "",
        ] {
            assert!(before(body.as_bytes(), now).is_err(), "{body}");
        }
    }
}
