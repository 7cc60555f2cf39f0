//! Brings what the ledger has to be sent, with growing pauses, until it is taken or has been tried enough.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aws_lc_rs::rand;
use http::StatusCode;
use jiff::Timestamp;
use kiln_auth::audit;
use kiln_backends::BuildId;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Message, Webhooks, way::Met};
use crate::{
    builds::Builds,
    doors,
    ledger::{Delivery, LedgerError, Outcome, State, Webhook},
};

/// The pause after the ledger failed.
const LEDGER_BACKOFF: Duration = Duration::from_secs(1);
/// How often to look although nothing says that there is anything.
const IDLE: Duration = Duration::from_secs(60);

/// Brings messages.
#[derive(Clone, Debug)]
pub struct Courier {
    builds: Builds,
    webhooks: Webhooks,
}

impl Courier {
    /// For the messages about these builds.
    #[must_use]
    pub fn new(builds: Builds, webhooks: Webhooks) -> Self {
        Self { builds, webhooks }
    }

    /// Brings messages until `stop`. Those on their way then are brought once more by the next process.
    pub async fn run(self, stop: CancellationToken) {
        let mut flying = JoinSet::new();
        let mut keys: HashMap<tokio::task::Id, (BuildId, State)> = HashMap::new();
        loop {
            let pause = match self.begin(&mut flying, &mut keys).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the webhooks' messages can't be read");
                    LEDGER_BACKOFF
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.builds.ledger().written() => {}
                Some(ended) = flying.join_next_with_id() => {
                    keys.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// Begins what is due and has room; returns for how long there is nothing else to do.
    async fn begin(
        &self,
        flying: &mut JoinSet<()>,
        keys: &mut HashMap<tokio::task::Id, (BuildId, State)>,
    ) -> Result<Duration, LedgerError> {
        let (ledger, settings) = (self.builds.ledger(), &self.webhooks.0.settings);
        let now = Timestamp::now();
        let begun: HashSet<_> = keys.values().copied().collect();
        for delivery in ledger.due(now, settings.at_once_per_owner.get()).await? {
            let key = (delivery.build, delivery.state);
            if flying.len() >= settings.at_once.get() {
                break;
            }
            if !begun.contains(&key) {
                let task = flying.spawn(self.clone().bring(delivery));
                keys.insert(task.id(), key);
            }
        }
        let next = ledger.next_due(now).await?;
        let pause = next.and_then(|at| Duration::try_from(at.duration_since(Timestamp::now())).ok());
        // One that became due meanwhile is no negative time away, but none.
        Ok(next.map_or(IDLE, |_| pause.unwrap_or_default()).min(IDLE))
    }

    async fn bring(self, mut delivery: Delivery) {
        let noted = async {
            let Some(webhook) = self.builds.ledger().webhook(delivery.build).await? else { return Ok(()) };
            delivery.attempts += 1;
            match self.message(&delivery, &webhook).await? {
                Ok(message) => {
                    let met = self.webhooks.0.way.send(&webhook.url, message).await;
                    self.judge(&mut delivery, met);
                }
                Err(why) => settle(&mut delivery, Outcome::GivenUp, Some(why)),
            }
            self.builds.ledger().tried(delivery.clone()).await?;
            self.tell(&delivery, &webhook);
            Ok::<_, LedgerError>(())
        };
        if let Err(error) = noted.await {
            tracing::error!(build = %delivery.build, %error, "what became of a webhook's message was not noted");
            // It is still due, and not to be sent again at once.
            sleep(LEDGER_BACKOFF).await;
        }
    }

    /// The signed message, or for its owner why there is none.
    async fn message(&self, delivery: &Delivery, webhook: &Webhook) -> Result<Result<Message, String>, LedgerError> {
        let (ledger, id) = (self.builds.ledger(), delivery.build);
        let Some(build) = ledger.load(id).await? else { return Ok(Err("the build is gone".to_owned())) };
        let keys = self.webhooks.keys(self.builds.seal(), id, &delivery.owner, webhook.secret.as_deref());
        let keys = match keys {
            Ok(keys) => keys,
            Err(error) => {
                tracing::error!(build = %id, %error, "a webhook's message can't be signed");
                return Ok(Err("it can't be signed: its key is gone".to_owned()));
            }
        };
        let message = doors::told(&self.builds, &build, delivery, webhook).await?;
        Ok(Ok(message.signed(&delivery.id(), Timestamp::now().as_second(), &keys)))
    }

    /// What to do after an attempt.
    fn judge(&self, delivery: &mut Delivery, met: Met) {
        let settings = &self.webhooks.0.settings;
        let (status, why, at_least) = match met {
            Met::Answer(status, _) if status.is_success() => {
                delivery.status = Some(status.as_u16());
                return settle(delivery, Outcome::Delivered, None);
            }
            // Whoever says that it is gone wants no more of it; other refusals may be a receiver's bad moment.
            Met::Answer(StatusCode::GONE, _) => {
                delivery.status = Some(StatusCode::GONE.as_u16());
                return settle(delivery, Outcome::GivenUp, Some("it is gone, as it answered".to_owned()));
            }
            Met::Refused => {
                delivery.status = None;
                return settle(delivery, Outcome::GivenUp, Some("its address isn't public".to_owned()));
            }
            Met::Answer(status, after) => (Some(status.as_u16()), format!("it answered {}", status.as_u16()), after),
            Met::Silence(why) => (None, why.to_owned(), None),
        };
        delivery.status = status;
        if delivery.attempts >= settings.attempts.get() {
            return settle(delivery, Outcome::GivenUp, Some(why));
        }
        let most = settings.backoff_at_most;
        let pause = pause(settings.backoff, most, delivery.attempts).max(at_least.unwrap_or_default().min(most));
        delivery.error = Some(why);
        delivery.due_at = Timestamp::now().checked_add(pause).ok();
    }

    /// Tells operators: a number for each attempt, a line for each end.
    fn tell(&self, delivery: &Delivery, webhook: &Webhook) {
        let again = delivery.outcome == Outcome::Pending;
        self.builds.metrics().delivery(if again { "retried" } else { delivery.outcome.as_str() });
        if again {
            return;
        }
        let receiver = receiver(&webhook.url);
        let line =
            audit::Line::of("webhook", "gateway").whose(&delivery.owner).build(&delivery.build).target(&receiver);
        match &delivery.error {
            None => line.done(),
            Some(why) => line.reason(why).refused(),
        }
    }
}

/// A receiver without path and query, which may be as good as a password.
pub(crate) fn receiver(url: &str) -> String {
    reqwest::Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

fn settle(delivery: &mut Delivery, outcome: Outcome, error: Option<String>) {
    delivery.outcome = outcome;
    delivery.error = error;
    delivery.due_at = None;
}

/// The pause after so many attempts: each four times the last, and a random part of up to half less, so
/// that many that failed at once don't come again at once.
fn pause(first: Duration, most: Duration, attempts: u32) -> Duration {
    let factor = 4_u32.saturating_pow(attempts.saturating_sub(1));
    let whole = first.saturating_mul(factor).min(most);
    let mut random = [0; 2];
    // Without random numbers the pauses are merely whole.
    let _ = rand::fill(&mut random);
    whole - whole.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let (first, most) = (Duration::from_secs(5), Duration::from_secs(3600));
        for (attempts, whole) in [(1, 5), (2, 20), (3, 80), (6, 3600), (4_000_000_000, 3600)] {
            let whole = Duration::from_secs(whole);
            for _ in 0..100 {
                let pause = pause(first, most, attempts);
                assert!(pause <= whole && pause >= whole / 2, "{attempts}: {pause:?}");
            }
        }
        let pauses: HashSet<Duration> = (0..10).map(|_| pause(first, most, 9)).collect();
        assert!(pauses.len() > 1);
    }
}
