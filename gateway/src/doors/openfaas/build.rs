//! `POST /build`: the body to disk, proved; then read, built, and answered when the build has ended.

use std::time::Instant;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use futures_util::StreamExt as _;
use http::{StatusCode, request::Parts};
use http_body::Body as _;
use kiln_auth::{Full, Identity, Origin, Place, UserName, attempts::Caller, signature::Signature};
use tower::BoxError;

use super::{
    OpenFaas, answer, callback,
    dialect::{Dialect, Fault},
    in_flight::{Crowded, InFlight},
    ndjson,
    proof::Unproved,
    request,
};
use crate::{
    admission::{Class, TooMuch, TooSlow, paced},
    archive::{ReceiveError, Spooled},
    builds::{Refused, Same},
    config::OnDisconnect,
    rescue::{self, PLACES_AFTER},
};

/// A body that somebody has proved to be theirs.
struct Received {
    spooled: Spooled,
    identity: Identity,
    /// What the build holds until it ends.
    in_flight: InFlight,
    /// What tells it from all other bodies of theirs.
    same: Option<Same>,
    /// What its request holds until the answer is sent.
    waiting: Option<Place<UserName>>,
}

/// A body on its way: one that its sender breaks off, or lets wait, is a failed attempt to prove whose
/// it is. Else it would cost an address nothing to hold places with bodies that never end.
struct Arriving<'c>(Option<&'c Caller>);

/// There is no build, for one reason or another.
enum Refusal {
    Fault(Fault),
    Crowded(Crowded),
}

pub(super) async fn build(
    State(door): State<OpenFaas>,
    Extension(origin): Extension<Origin>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    match receive(&door, origin, &head, body).await {
        Ok(mut received) => {
            let waiting = received.waiting.take();
            let answer = built(&door, origin, &head, received, begun).await;
            match waiting {
                Some(place) => place.until_sent(answer).map(Body::new),
                None => answer,
            }
        }
        Err(Refusal::Fault(fault)) => Dialect::of_signature(&head.headers).unwrap_or_default().fault(&fault),
        Err(Refusal::Crowded(crowded)) => crowded.answer(),
    }
}

/// Builds what a body asks for, and answers when that has ended.
async fn built(
    door: &OpenFaas,
    origin: Origin,
    head: &Parts,
    Received { spooled, identity, in_flight, same, .. }: Received,
    begun: Instant,
) -> Response {
    let signed = Dialect::of_signature(&head.headers);
    // Only the newer builder's clients know lines.
    let lines = |dialect| dialect == Dialect::Pro && ndjson::wanted(&head.headers);
    let package = match request::package(spooled, identity.user()).await {
        Ok(package) => package,
        Err(fault) => {
            // Who sent no signature asks for lines, or gives nothing away.
            let dialect = signed.unwrap_or(if lines(Dialect::Pro) { Dialect::Pro } else { Dialect::default() });
            return unbuildable(dialect, lines(dialect), &fault);
        }
    };
    let dialect = signed.unwrap_or_else(|| Dialect::of_package(&package));
    let mut request = match request::read(door, &identity, origin, package).await {
        Ok(request) => request,
        Err(fault) => return unbuildable(dialect, lines(dialect), &fault),
    };
    let later = match callback::wanted(door, &head.headers, dialect, identity.user(), &request.image) {
        Ok(later) => later,
        Err(fault) => return dialect.fault(&fault),
    };
    if later.is_some() {
        request.submission.webhook = later;
        // Nobody waits for it, but its context is in this process alone.
        let (keep, held) = (OnDisconnect::Keep, Box::new(in_flight));
        let kept = door.builds.attach(request.submission, request.context, keep, held, None);
        return kept.await.map_or_else(|error| dialect.fault(&refused(&error)), |kept| callback::later(kept.id()));
    }
    // From here on the build goes with this future, which the server drops when the caller goes.
    let (leaves, held) = (door.on_disconnect, Box::new(in_flight));
    let attached = match door.builds.attach(request.submission, request.context, leaves, held, same).await {
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
async fn receive(door: &OpenFaas, origin: Origin, head: &Parts, body: Body) -> Result<Received, Refusal> {
    let unavailable = |text: &str| Fault::busy(StatusCode::SERVICE_UNAVAILABLE, text, PLACES_AFTER);
    if !door.builds.ready() {
        return Err(unavailable("the gateway takes no builds: it is stopping, or its disk is full").into());
    }
    // Looked at before the body and taken behind it, so that who proves nothing takes none.
    door.in_flight.look()?;
    let named = door.proof.named(&head.uri, &head.headers);
    let name = named.as_deref().unwrap_or_default();
    let caller = door.admission.attempts.of_named(origin, name);
    caller.may_try().map_err(|exceeded| {
        let text = "too many bad signatures; try again later";
        Fault::busy(StatusCode::TOO_MANY_REQUESTS, text, exceeded.retry_after())
    })?;
    let _place = door.admission.archives.take(()).ok_or_else(|| unavailable("too many archives are on their way"))?;
    let _of_address = door.admission.archives_of.take(origin.network()).ok_or_else(|| {
        let text = "too many archives from this address are on their way";
        Fault::busy(StatusCode::TOO_MANY_REQUESTS, text, PLACES_AFTER)
    })?;
    // Before the first byte is asked for.
    let announced = body.size_hint().lower();
    if announced > door.body_at_most {
        return Err(unreceived(&ReceiveError::TooLarge(door.body_at_most)).into());
    }
    let mut bytes = door.admission.unproved.begin(origin, announced).map_err(too_much)?;
    let unproved = |error: Unproved| error.fault(&caller);
    let check = door.proof.begin(named.as_deref(), &head.headers).await.map_err(unproved)?;
    let (signature, verifier) = check.unzip();
    let body = paced(body.into_data_stream()).map(|chunk| {
        let chunk = chunk?;
        bytes.add(chunk.len())?;
        Ok::<_, BoxError>(chunk)
    });
    let arriving = Arriving(Some(&caller));
    let received = door.spool.receive(body, verifier).await;
    arriving.ended(&received);
    let (spooled, signer) = received.map_err(|error| match error {
        ReceiveError::Signature(mismatch) => unproved(mismatch.into()),
        ReceiveError::Body(error) if error.is::<TooMuch>() => {
            error.downcast_ref().copied().map_or_else(|| unreceived(&ReceiveError::Body(error)), too_much)
        }
        error => unreceived(&error),
    })?;
    if signature.is_some() {
        door.admission.attempts.proved(origin, name);
    }
    let identity = door.proof.end(signer);
    let rates = door.admission.rates(Class::Archive);
    rates
        .admit(identity.user(), Some(origin))
        .map_err(|exceeded| Fault::busy(StatusCode::TOO_MANY_REQUESTS, exceeded.to_string(), exceeded.retry_after()))?;
    let waiting = place_to_wait(door, &identity)?;
    let in_flight = door.in_flight.take(identity.user())?;
    if let Some(signature) = &signature {
        door.proof.admit(&identity, signature).map_err(unproved)?;
    }
    let same = signature.as_ref().and_then(Signature::of_body);
    Ok(Received { spooled, identity, in_flight, same, waiting })
}

/// A place among those of its owner who wait. Who is alone at this door has all of its places.
fn place_to_wait(door: &OpenFaas, identity: &Identity) -> Result<Option<Place<UserName>>, Fault> {
    if door.proof.alone() {
        return Ok(None);
    }
    let full = || Fault::busy(StatusCode::TOO_MANY_REQUESTS, Full::Owner.to_string(), PLACES_AFTER);
    door.admission.at_once(Class::Archive).owner.take(identity.user().clone()).map(Some).ok_or_else(full)
}

impl Arriving<'_> {
    /// Whatever else may be wrong with it, the body isn't one that was left unfinished.
    fn ended<T>(mut self, received: &Result<T, ReceiveError>) {
        let unfinished = |error: &ReceiveError| matches!(error, ReceiveError::Body(cause) if !cause.is::<TooMuch>());
        if !received.as_ref().is_err_and(unfinished) {
            self.0 = None;
        }
    }
}

/// Counts it: its sender broke it off, or the deadline did.
impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if let Some(caller) = self.0 {
            caller.failed("the body was broken off, or came too slowly, before its signature could be checked");
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Crowded> for Refusal {
    fn from(crowded: Crowded) -> Self {
        Self::Crowded(crowded)
    }
}

fn too_much(too_much: TooMuch) -> Fault {
    let status = match too_much {
        TooMuch::All => StatusCode::SERVICE_UNAVAILABLE,
        TooMuch::Address => StatusCode::TOO_MANY_REQUESTS,
    };
    Fault::busy(status, too_much.to_string(), PLACES_AFTER)
}

/// The answer about an archive that its sender has to change. Clients that read lines show nothing but
/// the number of a status that isn't 200, so to them it is said in a line.
fn unbuildable(dialect: Dialect, lines: bool, fault: &Fault) -> Response {
    if lines && fault.status.is_client_error() { ndjson::refusal(fault) } else { dialect.fault(fault) }
}

fn unreceived(error: &ReceiveError) -> Fault {
    match error {
        ReceiveError::TooLarge(_) => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        ReceiveError::Body(cause) => match cause.downcast_ref::<TooSlow>() {
            Some(slow) => Fault::new(StatusCode::REQUEST_TIMEOUT, slow.to_string()),
            None => Fault::bad(error.to_string()),
        },
        ReceiveError::Signature(_) => Fault::new(StatusCode::UNAUTHORIZED, error.to_string()),
        ReceiveError::Spool(cause) => Fault::of_spool(error, cause),
    }
}

fn refused(refused: &Refused) -> Fault {
    match rescue::refused(refused) {
        Some(status) => Fault::busy(status, refused.to_string(), PLACES_AFTER),
        None => Fault::internal(refused),
    }
}
