//! What a row of the ledger says, and the ways in which it may change.

use jiff::Timestamp;
use kiln_auth::{Scope, ScopedTarget, Target, UserName};
use kiln_backends::{BuildId, Failure};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, sqlite::SqliteRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{LedgerError, twins::Input, webhooks::Webhook};
use crate::builds::Request;

/// Where a build is on its way. The last three are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = BuildState)]
pub enum State {
    /// Accepted, and waiting for its turn.
    Queued,
    /// An attempt is on an engine.
    Running,
    /// The image stands in the registry, without its tag.
    Pushed,
    /// The tag is moved.
    Succeeded,
    /// It ended with a reason.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// A build to be accepted.
#[derive(Debug)]
pub struct NewBuild {
    /// Its id.
    pub id: BuildId,
    /// What makes an equal build of the same owner the same build.
    pub content: Option<Content>,
    /// What its image is made from, where another's may answer for it.
    pub input: Option<Input>,
    /// The registry, `host[:port]`.
    pub registry: String,
    /// The owner's repository and tag.
    pub target: ScopedTarget,
    /// What to build.
    pub request: Request,
    /// The file that came with it.
    pub file: Option<Vec<u8>>,
    /// What it needs of its owner's secrets, sealed.
    pub sealed: Option<Vec<u8>>,
    /// Where its owner wants to be told of it.
    pub webhook: Option<Webhook>,
    /// When it was asked for.
    pub accepted_at: Timestamp,
}

/// The key of an idempotent request.
#[derive(Clone, Debug)]
pub struct Content {
    /// A hash over all that determines the build.
    pub id: String,
    /// Whether a failed one gives way to a new one.
    pub retry: bool,
}

/// The answer to an acceptance.
#[derive(Debug)]
pub enum Accepted {
    /// It is new.
    New,
    /// The owner has one of the same content already, or one under way of the same input and target.
    Existing(Box<Build>),
    /// It is new, and takes the image of this one of the owner's.
    Follows(BuildId),
}

/// A build as the ledger has it.
#[derive(Clone, Debug)]
pub struct Build {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// Its id.
    pub id: BuildId,
    /// What `ensure` finds it by.
    pub content_id: Option<String>,
    /// The registry, `host[:port]`.
    pub registry: String,
    /// The owner's repository and tag.
    pub target: ScopedTarget,
    /// What to build.
    pub request: Request,
    /// What it needs of its owner's secrets, sealed.
    pub sealed: Option<Vec<u8>>,
    /// Where it is.
    pub state: State,
    /// The newest attempt, 0 before the first.
    pub attempt: u32,
    /// Whether its owner wants it stopped.
    pub cancelled: bool,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The image's digest.
    pub digest: Option<String>,
    /// What extended the base.
    pub extender: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The build whose image it takes.
    pub follows: Option<BuildId>,
    /// When its image was made, be it for another build.
    pub made_at: Option<Timestamp>,
}

/// A way in which a build moves on.
#[derive(Clone, Debug)]
pub enum Change {
    /// The image stands in the registry.
    Pushed {
        /// Under this digest.
        digest: String,
        /// What extended the base, if it was one.
        extender: Option<String>,
        /// When it was made.
        made_at: Timestamp,
    },
    /// The tag is moved.
    Succeeded,
    /// It ended with a reason.
    Failed(Failure),
    /// It was stopped.
    Cancelled(Failure),
    /// Back into the queue, as if the attempt had never been.
    Requeued,
}

/// Which finished builds go.
#[derive(Clone, Debug)]
pub struct Cleanup {
    /// Whose; `None` is everybody's.
    pub owner: Option<UserName>,
    /// Those that ended before.
    pub before: Timestamp,
    /// At most so many.
    pub limit: u32,
}

// === impl State ===

impl State {
    /// The word in the ledger and in the native API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Pushed => "pushed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The state of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Pushed, Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == word)
    }

    pub(super) fn parse(word: &str) -> Result<Self, LedgerError> {
        Self::from_word(word).ok_or_else(|| LedgerError::Corrupt(format!("state {word:?}")))
    }
}

// === impl Change ===

impl Change {
    /// The state it leads to.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Pushed { .. } => State::Pushed,
            Self::Succeeded => State::Succeeded,
            Self::Failed(_) => State::Failed,
            Self::Cancelled(_) => State::Cancelled,
            Self::Requeued => State::Queued,
        }
    }
}

// === impl Build ===

impl Build {
    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &UserName {
        self.target.owner()
    }

    pub(super) fn from_row(row: &SqliteRow) -> Result<Self, LedgerError> {
        let corrupt = |e: &dyn std::fmt::Display| LedgerError::Corrupt(e.to_string());
        let owner = UserName::parse(row.try_get("owner")?).map_err(|e| corrupt(&e))?;
        let request: Request = json(row.try_get("request")?)?;
        let target = format!("{}:{}", row.try_get::<&str, _>("repository")?, row.try_get::<&str, _>("tag")?);
        let target = Target::parse(&target).map_err(|e| corrupt(&e))?;
        let scope = if request.any_target { Scope::unbounded(owner) } else { Scope::of(owner) };
        let id = |bytes: &[u8]| Uuid::from_slice(bytes).map(BuildId).map_err(|e| corrupt(&e));
        Ok(Self {
            seq: row.try_get("seq")?,
            id: id(row.try_get("id")?)?,
            content_id: row.try_get("content_id")?,
            registry: row.try_get("registry")?,
            target: scope.admit(target).map_err(|e| corrupt(&e))?,
            request,
            sealed: row.try_get("sealed")?,
            state: State::parse(row.try_get("state")?)?,
            attempt: row.try_get("attempt")?,
            cancelled: row.try_get("cancelled")?,
            accepted_at: time(row.try_get("accepted_at")?)?,
            started_at: row.try_get::<Option<i64>, _>("started_at")?.map(time).transpose()?,
            finished_at: row.try_get::<Option<i64>, _>("finished_at")?.map(time).transpose()?,
            digest: row.try_get("digest")?,
            extender: row.try_get("extender")?,
            failure: row.try_get::<Option<&str>, _>("failure")?.map(json).transpose()?,
            follows: row.try_get::<Option<&[u8]>, _>("follows")?.map(id).transpose()?,
            made_at: row.try_get::<Option<i64>, _>("made_at")?.map(time).transpose()?,
        })
    }
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|e| LedgerError::Corrupt(e.to_string()))
}

pub(super) fn time(milliseconds: i64) -> Result<Timestamp, LedgerError> {
    Timestamp::from_millisecond(milliseconds).map_err(|e| LedgerError::Corrupt(e.to_string()))
}
