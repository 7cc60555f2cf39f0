//! What is to be sent about builds, to whom, and what became of it.

use jiff::Timestamp;
use kiln_auth::UserName;
use kiln_backends::BuildId;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    Ledger, LedgerError, State,
    write::{Write, id_of},
};

/// Where the owner of a build wants to be told of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What is sent.
    pub style: Style,
    /// Where it is sent to.
    pub url: String,
    /// What it is signed with, sealed; `None` is a key of the configuration.
    pub secret: Option<Vec<u8>>,
    /// The image as the caller wrote it, where what is sent repeats that.
    pub image: Option<String>,
    /// The states to tell of.
    pub events: Vec<State>,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A `CloudEvent` for each state.
    CloudEvents,
    /// What of-builder answers.
    OfBuilder,
    /// What the pro-builder answers.
    Pro,
}

/// One message about a build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// About which build.
    pub build: BuildId,
    /// Whose it is.
    pub owner: UserName,
    /// The state that it tells of.
    pub state: State,
    /// When the build came there.
    pub occurred_at: Timestamp,
    /// When it is tried next; `None` once there is nothing left to do.
    pub due_at: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// Why there was none, or none that counts.
    pub error: Option<String>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is tried again.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It isn't tried any more.
    GivenUp,
}

// === impl Ledger ===

impl Ledger {
    /// The webhook of a build, whoever owns it.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn webhook(&self, id: BuildId) -> Result<Option<Webhook>, LedgerError> {
        let query = sqlx::query("SELECT * FROM webhooks WHERE build = ?").bind(id_of(id));
        query.fetch_optional(&self.readers).await?.as_ref().map(Webhook::from_row).transpose()
    }

    /// All messages about a build, in the order in which they came to be.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn deliveries(&self, id: BuildId) -> Result<Vec<Delivery>, LedgerError> {
        let query = sqlx::query("SELECT * FROM deliveries WHERE build = ? ORDER BY occurred_at").bind(id_of(id));
        query.fetch_all(&self.readers).await?.iter().map(Delivery::from_row).collect()
    }

    /// Messages that are due, the oldest first: `of_one` of each owner at most, so that nobody's are hidden
    /// behind another's.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn due(&self, now: Timestamp, of_one: u32) -> Result<Vec<Delivery>, LedgerError> {
        let query = sqlx::query(
            "WITH RECURSIVE owners (owner) AS (SELECT min(owner) FROM deliveries WHERE due_at IS NOT NULL UNION ALL \
             SELECT (SELECT min(owner) FROM deliveries WHERE due_at IS NOT NULL AND owner > owners.owner) FROM owners \
             WHERE owners.owner IS NOT NULL) \
             SELECT d.* FROM owners JOIN deliveries AS d ON (d.build, d.state) IN (SELECT build, state FROM deliveries \
             WHERE owner = owners.owner AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?) ORDER BY d.due_at",
        );
        let query = query.bind(now.as_millisecond()).bind(of_one);
        query.fetch_all(&self.readers).await?.iter().map(Delivery::from_row).collect()
    }

    /// When the next message after `now` is due.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, LedgerError> {
        let query = sqlx::query_scalar("SELECT min(due_at) FROM deliveries WHERE due_at > ?");
        let at: Option<i64> = query.bind(now.as_millisecond()).fetch_one(&self.readers).await?;
        at.map(super::row::time).transpose()
    }

    /// Notes what became of an attempt to deliver.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn tried(&self, delivery: Delivery) -> Result<(), LedgerError> {
        self.write(|reply| Write::Tried(Box::new(delivery), reply)).await
    }

    /// Waits until something was written since the last wait: there may be messages.
    pub async fn written(&self) {
        self.written.notified().await;
    }
}

/// Records where a build's owner wants to be told of it.
pub(super) async fn insert(
    db: &mut SqliteConnection,
    build: BuildId,
    owner: &UserName,
    webhook: &Webhook,
) -> Result<(), LedgerError> {
    let events: String = webhook.events.iter().map(|state| format!("{},", state.as_str())).collect();
    let query = sqlx::query(
        "INSERT INTO webhooks (build, owner, style, url, secret, image, events) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query.bind(id_of(build)).bind(owner.as_str()).bind(webhook.style.as_str()).bind(&webhook.url);
    let query = query.bind(&webhook.secret).bind(&webhook.image).bind(format!(",{events}"));
    query.execute(db).await?;
    Ok(())
}

/// Notes an attempt; the secret goes once there is nothing left to sign.
pub(super) async fn update(db: &mut SqliteConnection, delivery: &Delivery) -> Result<(), LedgerError> {
    let query = sqlx::query(
        "UPDATE deliveries SET due_at = ?, attempts = ?, outcome = ?, status = ?, error = ? \
         WHERE build = ? AND state = ? AND due_at IS NOT NULL",
    );
    let query = query.bind(delivery.due_at.map(Timestamp::as_millisecond)).bind(delivery.attempts);
    let query = query.bind(delivery.outcome.as_str()).bind(delivery.status).bind(&delivery.error);
    query.bind(id_of(delivery.build)).bind(delivery.state.as_str()).execute(&mut *db).await?;
    if delivery.due_at.is_none() {
        let query = sqlx::query(
            "UPDATE webhooks SET secret = NULL WHERE build = ?1 AND secret IS NOT NULL \
             AND EXISTS (SELECT 1 FROM builds WHERE id = ?1 AND finished_at IS NOT NULL) \
             AND NOT EXISTS (SELECT 1 FROM deliveries WHERE build = ?1 AND due_at IS NOT NULL)",
        );
        query.bind(id_of(delivery.build)).execute(db).await?;
    }
    Ok(())
}

// === impl Webhook ===

impl Webhook {
    fn from_row(row: &SqliteRow) -> Result<Self, LedgerError> {
        let events: &str = row.try_get("events")?;
        Ok(Self {
            style: Style::parse(row.try_get("style")?)?,
            url: row.try_get("url")?,
            secret: row.try_get("secret")?,
            image: row.try_get("image")?,
            events: events.split(',').filter(|word| !word.is_empty()).map(State::parse).collect::<Result<_, _>>()?,
        })
    }
}

/// Paths of webhooks are as good as passwords at some receivers.
impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("style", &self.style).field("events", &self.events).finish_non_exhaustive()
    }
}

impl Style {
    fn as_str(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::OfBuilder => "of-builder",
            Self::Pro => "pro",
        }
    }

    fn parse(word: &str) -> Result<Self, LedgerError> {
        let all = [Self::CloudEvents, Self::OfBuilder, Self::Pro];
        all.into_iter()
            .find(|style| style.as_str() == word)
            .ok_or_else(|| LedgerError::Corrupt(format!("style {word:?}")))
    }
}

// === impl Delivery ===

impl Delivery {
    fn from_row(row: &SqliteRow) -> Result<Self, LedgerError> {
        let corrupt = |e: &dyn std::fmt::Display| LedgerError::Corrupt(e.to_string());
        Ok(Self {
            build: BuildId(Uuid::from_slice(row.try_get("build")?).map_err(|e| corrupt(&e))?),
            owner: UserName::parse(row.try_get("owner")?).map_err(|e| corrupt(&e))?,
            state: State::parse(row.try_get("state")?)?,
            occurred_at: super::row::time(row.try_get("occurred_at")?)?,
            due_at: row.try_get::<Option<i64>, _>("due_at")?.map(super::row::time).transpose()?,
            attempts: row.try_get("attempts")?,
            outcome: Outcome::parse(row.try_get("outcome")?)?,
            status: row.try_get("status")?,
            error: row.try_get("error")?,
        })
    }
}

// === impl Outcome ===

impl Outcome {
    /// The word in the ledger and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }

    fn parse(word: &str) -> Result<Self, LedgerError> {
        let all = [Self::Pending, Self::Delivered, Self::GivenUp];
        let found = all.into_iter().find(|outcome| outcome.as_str() == word);
        found.ok_or_else(|| LedgerError::Corrupt(format!("outcome {word:?}")))
    }
}
