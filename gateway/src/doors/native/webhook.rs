//! Webhooks: asked for with a build, looked at, and what their receivers are told: `CloudEvents` 1.0 in JSON.

use axum::{Json, extract::State as Of};
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use kiln_auth::UserName;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Native, asked::Asked, fault::Fault, view::View};
use crate::{
    builds::Builds,
    ledger::{Build, Delivery, State, Style},
    webhooks::{Message, Unfit, Wanted, Webhooks, receiver},
};

/// What a build may be told of: where one is pushed without its tag is nobody's business.
const EVENTS: [State; 5] = [State::Queued, State::Running, State::Succeeded, State::Failed, State::Cancelled];

/// Where to tell of a build.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// An `https` URL whose address is public, or in a network that the operator permits.
    #[schema(max_length = 2048)]
    url: String,
    /// What to sign with: `whsec_` and the base64 of 24 to 64 bytes. Needed where the operator has set none.
    secret: Option<String>,
    /// What to tell of; its end, unless said: `queued`, `running`, `succeeded`, `failed`, `cancelled`.
    events: Option<Vec<String>>,
}

/// What became of a build's messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Told {
    /// Scheme, host and port of the URL.
    receiver: String,
    /// What is told of.
    events: Vec<&'static str>,
    /// The messages so far, in the order in which they came to be.
    deliveries: Vec<Sent>,
}

/// A message, without anything secret.
#[derive(Debug, Serialize, ToSchema)]
struct Sent {
    /// The event's id, and the `webhook-id`: the same at every attempt.
    id: String,
    /// The state that it tells of.
    event: &'static str,
    /// `pending`, `delivered` or `given_up`.
    state: &'static str,
    occurred: Timestamp,
    attempts: u32,
    /// When it is tried next.
    next: Option<Timestamp>,
    /// The last answer's.
    status: Option<u16>,
    /// Why there was none, or none that counts.
    error: Option<String>,
}

impl NewWebhook {
    /// Looks at it.
    pub(super) fn wanted(self, webhooks: &Webhooks, owner: &UserName) -> Result<Wanted, Fault> {
        let unfit = |error: Unfit| match error {
            Unfit::NoSecret | Unfit::Secret(_) => Fault::bad(format!("webhook.secret: {error}")),
            error => Fault::bad(format!("webhook.url: {error}")),
        };
        let wanted = webhooks.look(owner, Style::CloudEvents, &self.url, self.secret.as_deref()).map_err(unfit)?;
        let Some(words) = self.events else { return Ok(wanted) };
        let event = |word: &String| EVENTS.into_iter().find(|state| state.as_str() == word);
        let events = words.iter().map(event).collect::<Option<Vec<_>>>().filter(|events| !events.is_empty());
        let words = EVENTS.map(State::as_str).join(", ");
        let mut events = events.ok_or_else(|| Fault::bad(format!("webhook.events: one or several of {words}")))?;
        events.sort_by_key(|state| state.as_str());
        events.dedup();
        Ok(wanted.events(events))
    }
}

/// What became of a build's messages.
#[utoipa::path(
    get, path = "/v1/builds/{id}/webhook", tag = "builds", operation_id = "get_webhook",
    params(("id" = uuid::Uuid, Path, description = "the build's")),
    responses((status = 200, body = Told), (status = 404, description = "no such build, or it has no webhook"))
)]
pub(super) async fn look(Of(Native { builds, .. }): Of<Native>, asked: Asked) -> Result<Json<Told>, Fault> {
    let owner = asked.owner(&builds).await?;
    let none = || Fault::new(StatusCode::NOT_FOUND, "no such build, or it has no webhook");
    let (webhook, deliveries) = builds.webhook(&owner, asked.id).await?.ok_or_else(none)?;
    asked.note("read", &owner);
    let events = webhook.events.iter().map(|state| state.as_str()).collect();
    Ok(Json(Told {
        receiver: receiver(&webhook.url),
        events,
        deliveries: deliveries.into_iter().map(Sent::of).collect(),
    }))
}

/// A build's state as an event, in structured mode: the signature is over the body, so over all of it.
pub(crate) fn told(builds: &Builds, build: &Build, delivery: &Delivery) -> Message {
    let state = delivery.state.as_str();
    let event = json!({
        "specversion": "1.0",
        "id": delivery.id(),
        "source": format!("urn:uuid:{}", builds.ledger().instance().0),
        "type": format!("dev.kiln.build.{state}"),
        "subject": build.id.to_string(),
        "time": delivery.occurred_at,
        "datacontenttype": "application/json",
        "data": View::of(build).when(delivery.state),
    });
    Message::new(HeaderValue::from_static("application/cloudevents+json; charset=utf-8"), event.to_string())
}

impl Sent {
    fn of(delivery: Delivery) -> Self {
        Self {
            id: delivery.id(),
            event: delivery.state.as_str(),
            state: delivery.outcome.as_str(),
            occurred: delivery.occurred_at,
            attempts: delivery.attempts,
            next: delivery.due_at,
            status: delivery.status,
            error: delivery.error,
        }
    }
}

/// Neither the secret nor the URL is for logs.
impl std::fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewWebhook").field("events", &self.events).finish_non_exhaustive()
    }
}
