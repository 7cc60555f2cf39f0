//! What is sent: a door's words about a build, with what shows that they are ours.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::secret::Secret;
use crate::ledger::Delivery;

/// A message before it is signed.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Message {
    pub(crate) fn new(content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self { headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]), body: body.into() }
    }

    /// Adds a field; one that can't be a field's value isn't there.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With `webhook-id`, `webhook-timestamp` and `webhook-signature`, one for each key.
    pub(super) fn signed(self, id: &str, timestamp: i64, keys: &[Secret]) -> Self {
        let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, timestamp, &self.body)).collect();
        self.with("webhook-id", id)
            .with("webhook-timestamp", &timestamp.to_string())
            .with("webhook-signature", &signatures.join(" "))
    }
}

impl Delivery {
    /// The message's id, the same at every attempt: a build comes to a state once.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.build, self.state.as_str())
    }
}
