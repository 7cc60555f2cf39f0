//! A build's life: accepted, queued, run on an engine, committed under its tag.

mod accept;
mod again;
mod attached;
mod attempt;
mod bases;
mod cancel;
mod commit;
mod engine;
mod follow;
mod input;
mod opened;
mod page;
mod queue;
mod record;
mod redact;
mod repository;
mod run;
mod running;
mod sharing;
mod sources;
mod stored;
mod turns;
mod upkeep;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;
use kiln_auth::{Origin, UserName, audit};
use kiln_backends::{BuildId, Capabilities, Failure};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::{
    ledger::{Build, Cleanup, Delivery, Ledger, LedgerError, Seal, State, Webhook},
    log::{End, Logs, Reader, RecordKind},
    metrics::Metrics,
    recipes::Kind,
};

pub(crate) use accept::owner_settings;
pub use accept::{Receipt, Refused, Submission};
pub use again::NoRetry;
use attached::Contexts;
pub use attached::{Attached, Held, Same};
pub use attempt::Materials;
pub use commit::Committer;
pub use engine::watch_engine;
pub(crate) use input::fields as hash_of;
pub use page::Page;
pub use queue::{Place, Queue, QueueFull};
pub use run::{Runner, RunnerSettings};
use running::Running;
pub use sharing::Sharing;
pub use stored::{Arrived, ContextOptions, Stored, TooMuchStored};
pub(crate) use turns::Turns;
pub use upkeep::{recover, watch_disk, watch_retention};

/// What to build, as the ledger keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// The base image, as the caller named it; empty where the caller's own Dockerfile does.
    pub source: String,
    /// Which runtime the base is, where the caller said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Whether a requirements file extends the base; otherwise it gets a new name only.
    #[serde(default)]
    pub extend: bool,
    /// The size class, where the caller named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Whether the scope check was off when it was accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_target: bool,
    /// Whether the request itself named the registry, as configuration lets its door; otherwise settings do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub names_registry: bool,
    /// Whether nothing is pushed: it is only to be seen that it can be built.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_push: bool,
    /// Whether nothing that was made before is used, be it an image or a step's result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// What its input was hashed with, as its base was when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
    /// Whether its caller waits, and its context is in this process alone: it ends with either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
    /// How the context is built that its caller sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextOptions>,
    /// A hash over all that was asked for, where its caller gave it a key to be found by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// A base as it was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resolved {
    /// Its digest.
    pub digest: String,
    /// What is built on it, and for.
    pub platform: String,
}

impl Request {
    /// Whether what is built is a folder of the caller's, with a Dockerfile.
    #[must_use]
    pub fn has_context(&self) -> bool {
        self.attached || self.context.is_some()
    }
}

/// What doors may do with builds.
#[derive(Clone, Debug)]
pub struct Builds(Arc<Shared>);

/// What all parts of a build's life share.
#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    logs: Logs,
    queue: Queue,
    seal: Seal,
    running: Running,
    contexts: Contexts,
    turns: Turns,
    stored: Stored,
    metrics: Metrics,
    /// False once the process is stopping.
    accepting: AtomicBool,
    /// False while there is too little free space.
    disk_free: AtomicBool,
    engine: watch::Sender<EngineHealth>,
    /// Has the engine proved anew at once.
    engine_lost: Notify,
}

/// What is known of the engine.
#[derive(Clone, Debug, Default)]
pub struct EngineHealth {
    /// What it can do, once it was proved; `None` while it doesn't answer or is unfit.
    pub capabilities: Option<Capabilities>,
    /// What is wrong with it, for operators.
    pub trouble: Option<String>,
    /// Since when there is none, as far as this process knows.
    pub missing_since: Option<Timestamp>,
}

impl Builds {
    /// The builds of this installation.
    #[must_use]
    pub fn new(ledger: Ledger, logs: Logs, queue: Queue, seal: Seal, stored: Stored, metrics: Metrics) -> Self {
        Self(Arc::new(Shared {
            ledger,
            logs,
            queue,
            seal,
            running: Running::default(),
            contexts: Contexts::default(),
            turns: Turns::default(),
            stored,
            metrics,
            accepting: AtomicBool::new(true),
            disk_free: AtomicBool::new(true),
            engine: watch::Sender::new(EngineHealth {
                missing_since: Some(Timestamp::now()),
                ..EngineHealth::default()
            }),
            engine_lost: Notify::new(),
        }))
    }

    /// A build of this owner; another's is `None`.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn get(&self, owner: &UserName, id: BuildId) -> Result<Option<Build>, LedgerError> {
        self.0.ledger.get(owner, id).await
    }

    /// Whose build this is. For operators: nobody else may learn that there is one.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn owner(&self, id: BuildId) -> Result<Option<UserName>, LedgerError> {
        Ok(self.0.ledger.load(id).await?.map(|build| build.owner().clone()))
    }

    /// The owner's build of this content.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn by_content(&self, owner: &UserName, content: &str) -> Result<Option<Build>, LedgerError> {
        self.0.ledger.by_content(owner, content).await
    }

    /// Reads the log of a build of this owner from the record after `after` on.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn log(
        &self,
        owner: &UserName,
        id: BuildId,
        after: u64,
        follow: bool,
    ) -> Result<Option<Reader>, LedgerError> {
        self.watched(owner, id, |logs| logs.read(id, after, follow)).await
    }

    /// The end of a build of this owner, to be waited for.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn end(&self, owner: &UserName, id: BuildId) -> Result<Option<End>, LedgerError> {
        self.watched(owner, id, |logs| logs.end(id)).await
    }

    /// Has `watch` subscribe to the log of a build of this owner.
    async fn watched<T>(
        &self,
        owner: &UserName,
        id: BuildId,
        watch: impl FnOnce(&Logs) -> T,
    ) -> Result<Option<T>, LedgerError> {
        if self.0.ledger.get(owner, id).await?.is_none() {
            return Ok(None);
        }
        let watching = watch(&self.0.logs);
        // Asked again after subscribing: a build that ended in between seals nothing any more.
        if self.0.ledger.get(owner, id).await?.is_none_or(|build| build.state.is_terminal()) {
            self.0.logs.seal_unless_held(id);
        }
        Ok(Some(watching))
    }

    /// Removes finished builds of an owner that ended before `before`, their logs too; counts them.
    ///
    /// # Errors
    /// When the ledger failed; what was removed until then stays removed.
    pub async fn cleanup(&self, owner: &UserName, before: Timestamp, origin: Origin) -> Result<usize, LedgerError> {
        let removed = self.0.remove(Some(owner.clone()), before).await?;
        let which = format!("{removed} finished before {before}");
        audit::Line::by("delete", owner).from(origin).build(&which).done();
        Ok(removed)
    }

    /// The webhook of a build of this owner, and what became of its messages.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn webhook(
        &self,
        owner: &UserName,
        id: BuildId,
    ) -> Result<Option<(Webhook, Vec<Delivery>)>, LedgerError> {
        if self.0.ledger.get(owner, id).await?.is_none() {
            return Ok(None);
        }
        let Some(webhook) = self.0.ledger.webhook(id).await? else { return Ok(None) };
        Ok(Some((webhook, self.0.ledger.deliveries(id).await?)))
    }

    /// Of every owner's: for the courier of webhooks' messages, never for a door.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.0.seal
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Accepts nothing from now on.
    pub fn stop_accepting(&self) {
        self.0.accepting.store(false, Ordering::Relaxed);
    }

    /// Whether builds are accepted: not while stopping or with a full disk.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.0.accepting.load(Ordering::Relaxed) && self.0.disk_free.load(Ordering::Relaxed)
    }

    /// Lets the followers of logs go: nothing will be written any more.
    pub fn close_logs(&self) {
        self.0.logs.close();
    }

    /// Where contexts go that are to be kept.
    #[must_use]
    pub fn stored(&self) -> &Stored {
        &self.0.stored
    }

    /// What is known of the engine.
    #[must_use]
    pub fn engine(&self) -> EngineHealth {
        self.0.engine.borrow().clone()
    }

    /// Proves that the ledger can be written.
    ///
    /// # Errors
    /// When it can't.
    pub async fn check(&self) -> Result<(), LedgerError> {
        self.0.ledger.check().await
    }
}

impl Shared {
    /// Writes the last record of a build. Its followers stay until the ledger has its end, too:
    /// whoever sees the log end finds the build ended.
    async fn end_log(&self, id: BuildId, state: State, failure: Option<&Failure>) {
        let text =
            failure.map_or_else(|| state.as_str().to_owned(), |failure| format!("{}: {failure}", state.as_str()));
        let written = async {
            let mut writer = self.logs.append(id).await?;
            writer.write(&[(RecordKind::End, 0, text.into())]).await?;
            writer.sync().await
        };
        if let Err(error) = written.await {
            tracing::error!(build = %id, %error, "the end of a build's log was not written");
        }
    }

    async fn remove(&self, owner: Option<UserName>, before: Timestamp) -> Result<usize, LedgerError> {
        /// Rows in one transaction, so that others don't wait long for their turn.
        const AT_ONCE: u32 = 200;
        let mut removed = 0;
        loop {
            let which = Cleanup { owner: owner.clone(), before, limit: AT_ONCE };
            let ids = self.ledger.remove_finished(which).await?;
            for id in &ids {
                if let Err(error) = self.logs.remove(*id).await {
                    tracing::warn!(build = %id, %error, "a removed build's log stays");
                }
            }
            removed += ids.len();
            if ids.len() < AT_ONCE as usize {
                return Ok(removed);
            }
        }
    }
}
