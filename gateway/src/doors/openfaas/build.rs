//! `POST /build`: the body to disk, proved; then read, built, and answered when the build has ended.

use std::time::Instant;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{StatusCode, request::Parts};
use http_body::Body as _;
use kiln_auth::{Identity, Origin};

use super::{OpenFaas, answer, dialect::Dialect, dialect::Fault, ndjson, proof::Unproved, request};
use crate::{
    archive::{ReceiveError, Spooled},
    builds::{QueueFull, Refused},
};

/// When to try again what there was no place for, in seconds: a body takes some, and a build.
const PLACES_AFTER: u64 = 10;

pub(super) async fn build(
    State(door): State<OpenFaas>,
    Extension(origin): Extension<Origin>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let signed = Dialect::of_signature(&head.headers);
    let (spooled, identity) = match receive(&door, origin, &head, body).await {
        Ok(received) => received,
        Err(fault) => return signed.unwrap_or_default().fault(&fault),
    };
    // Only the newer builder's clients know lines.
    let lines = |dialect| dialect == Dialect::Pro && ndjson::wanted(&head.headers);
    let package = match request::package(spooled).await {
        Ok(package) => package,
        Err(fault) => {
            // Who sent no signature asks for lines, or gives nothing away.
            let dialect = signed.unwrap_or(if lines(Dialect::Pro) { Dialect::Pro } else { Dialect::default() });
            return unbuildable(dialect, lines(dialect), &fault);
        }
    };
    let dialect = signed.unwrap_or_else(|| Dialect::of_package(&package));
    let request = match request::read(&door, &identity, origin, package).await {
        Ok(request) => request,
        Err(fault) => return unbuildable(dialect, lines(dialect), &fault),
    };
    // From here on the build ends with this future, which the server drops when the caller goes.
    let mut attached = match door.builds.attach(request.submission, request.context).await {
        Ok(attached) => attached,
        Err(error) => return dialect.fault(&refused(&error)),
    };
    if lines(dialect) {
        return ndjson::answer(attached, request.image, begun).await;
    }
    match attached.ended().await {
        Ok(Some(build)) => answer::of(dialect, &request.image, &build, &attached, begun).await,
        Ok(None) => {
            let text = "the gateway is stopping; send the build again";
            dialect.fault(&Fault::busy(StatusCode::SERVICE_UNAVAILABLE, text, PLACES_AFTER))
        }
        Err(error) => dialect.fault(&Fault::internal(&error)),
    }
}

/// Writes the body to disk and proves whose it is. Until then it is nothing but bytes, of which an
/// address may leave only so many here.
async fn receive(door: &OpenFaas, origin: Origin, head: &Parts, body: Body) -> Result<(Spooled, Identity), Fault> {
    let unavailable = |text: &str| Fault::busy(StatusCode::SERVICE_UNAVAILABLE, text, PLACES_AFTER);
    if !door.builds.ready() {
        return Err(unavailable("the gateway takes no builds: it is stopping, or its disk is full"));
    }
    let caller = door.admission.attempts.of(Some(origin));
    caller.may_try().map_err(|exceeded| {
        let text = "too many bad signatures; try again later";
        Fault::busy(StatusCode::TOO_MANY_REQUESTS, text, exceeded.retry_after())
    })?;
    let _place = door.admission.archives.take(()).ok_or_else(|| unavailable("too many archives are on their way"))?;
    let _of_address = door.admission.archives_of.take(origin.from).ok_or_else(|| {
        let text = "too many archives from this address are on their way";
        Fault::busy(StatusCode::TOO_MANY_REQUESTS, text, PLACES_AFTER)
    })?;
    // Before the first byte is asked for.
    if body.size_hint().lower() > door.body_at_most {
        return Err(unreceived(&ReceiveError::TooLarge(door.body_at_most)));
    }
    let unproved = |error: Unproved| error.fault(&caller);
    let check = door.proof.begin(&head.uri, &head.headers).await.map_err(unproved)?;
    let (signature, verifier) = check.unzip();
    let (spooled, signer) =
        door.spool.receive(body.into_data_stream(), verifier).await.map_err(|error| match error {
            ReceiveError::Signature(mismatch) => unproved(mismatch.into()),
            error => unreceived(&error),
        })?;
    let identity = door.proof.end(signature.as_ref(), signer).map_err(unproved)?;
    let rates = door.admission.rates(crate::admission::Class::Archive);
    rates
        .admit(identity.user(), Some(origin))
        .map_err(|exceeded| Fault::busy(StatusCode::TOO_MANY_REQUESTS, exceeded.to_string(), exceeded.retry_after()))?;
    Ok((spooled, identity))
}

/// The answer about an archive that its sender has to change. Clients that read lines show nothing but
/// the number of a status that isn't 200, so to them it is said in a line.
fn unbuildable(dialect: Dialect, lines: bool, fault: &Fault) -> Response {
    if lines && fault.status.is_client_error() { ndjson::refusal(fault) } else { dialect.fault(fault) }
}

fn unreceived(error: &ReceiveError) -> Fault {
    match error {
        ReceiveError::TooLarge(_) => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        ReceiveError::Body(_) => Fault::bad(error.to_string()),
        ReceiveError::Signature(_) => Fault::new(StatusCode::UNAUTHORIZED, error.to_string()),
        ReceiveError::Spool(_) => Fault::internal(error),
    }
}

fn refused(refused: &Refused) -> Fault {
    tracing::warn!(error = %refused, "a build was not accepted");
    match refused {
        Refused::Queue(QueueFull::Owner(_)) => {
            Fault::busy(StatusCode::TOO_MANY_REQUESTS, refused.to_string(), PLACES_AFTER)
        }
        Refused::Ledger(_) | Refused::Seal(_) => Fault::internal(refused),
        Refused::Stopping | Refused::DiskFull | Refused::Queue(_) => {
            Fault::busy(StatusCode::SERVICE_UNAVAILABLE, refused.to_string(), PLACES_AFTER)
        }
    }
}
