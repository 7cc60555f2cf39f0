//! The ledger's one writer: takes what waits, applies it in one transaction, answers after the sync.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kiln_backends::{BuildId, Failure};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::{
    LedgerError,
    row::{Accepted, Build, Change, Cleanup, NewBuild, State},
    twins::{self, Twin, Wanted},
    webhooks::{self, Delivery},
};

/// How many writes may share a sync; more would only make the first of them wait.
const GROUP: usize = 256;

/// How many files of an owner's failed builds are kept, and how long they may be, bytes: what people
/// try again, they try again soon, and few requirements files are longer than some KiB.
const KEPT: u32 = 16;
const KEPT_BYTES: i64 = 256 * 1024;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// One thing to be written, with where the answer goes.
pub(super) enum Write {
    Accept(Box<NewBuild>, Reply<Accepted>),
    Claim(BuildId, Duration, Reply<Option<u32>>),
    Transition(BuildId, u32, State, Change, Reply<bool>),
    Cancel(BuildId, Failure, Reply<Option<State>>),
    Recover(u32, Failure, Reply<u64>),
    Unfollow(BuildId, Reply<Option<BuildId>>),
    ForgetInput(BuildId, Reply<()>),
    Remove(Cleanup, Reply<Vec<BuildId>>),
    Extender([String; 3], Reply<()>),
    Tried(Box<Delivery>, Reply<()>),
    Check(Reply<()>),
}

/// Answers that wait for the commit.
type Answers = Vec<Box<dyn FnOnce(Result<(), LedgerError>) + Send>>;

#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Write>);

impl Writer {
    pub(super) fn start(pool: SqlitePool, written: Arc<Notify>) -> Self {
        let (sender, receiver) = mpsc::channel(GROUP);
        tokio::spawn(write_groups(pool, receiver, written));
        Self(sender)
    }

    pub(super) async fn send(&self, write: Write) -> Result<(), LedgerError> {
        self.0.send(write).await.map_err(|_| LedgerError::Closed)
    }
}

async fn write_groups(pool: SqlitePool, mut waiting: mpsc::Receiver<Write>, written: Arc<Notify>) {
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let mut answers = Answers::new();
        let committed = commit(&pool, &mut group, &mut answers).await;
        if let Err(error) = &committed {
            tracing::error!(%error, writes = answers.len() + group.len(), "a group of writes was not committed");
        }
        // Writes that were never applied drop their reply, which their callers see as an error.
        group.clear();
        let failed = committed.err().map(|e| e.to_string());
        for answer in answers {
            answer(failed.as_ref().map_or(Ok(()), |e| Err(LedgerError::NotWritten(e.clone()))));
        }
        written.notify_one();
    }
}

async fn commit(pool: &SqlitePool, group: &mut Vec<Write>, answers: &mut Answers) -> Result<(), LedgerError> {
    let mut db = pool.acquire().await?;
    let committed = transaction(&mut db, group, answers).await;
    if committed.is_err() {
        // SQLite itself ends the transaction after some errors, a full disk among them: there may be none.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *db).await;
    }
    committed
}

async fn transaction(
    db: &mut SqliteConnection,
    group: &mut Vec<Write>,
    answers: &mut Answers,
) -> Result<(), LedgerError> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *db).await?;
    let mut plain = Vec::new();
    for write in group.drain(..) {
        match write {
            // Acceptances that nothing finds again can't meet each other, so they go in together.
            Write::Accept(build, reply) if build.content.is_none() && build.input.is_none() => {
                plain.push((build, reply))
            }
            other => apply(db, other, answers).await?,
        }
    }
    insert(db, plain, answers).await?;
    sqlx::raw_sql("COMMIT").execute(db).await?;
    Ok(())
}

/// Sends `value` once it is committed.
fn answer<T: Send + 'static>(answers: &mut Answers, reply: Reply<T>, value: T) {
    answers.push(Box::new(move |committed| {
        let _ = reply.send(committed.map(|()| value));
    }));
}

async fn apply(db: &mut SqliteConnection, write: Write, answers: &mut Answers) -> Result<(), LedgerError> {
    match write {
        Write::Accept(build, reply) => accept_unique(db, build, reply, answers).await?,
        Write::Claim(id, lease, reply) => answer(answers, reply, claim(db, id, lease).await?),
        Write::Transition(id, attempt, from, to, reply) => {
            answer(answers, reply, transition(db, id, attempt, from, to).await?);
        }
        Write::Cancel(id, failure, reply) => answer(answers, reply, cancel(db, id, failure).await?),
        Write::Unfollow(id, reply) => answer(answers, reply, unfollow(db, id).await?),
        Write::ForgetInput(id, reply) => {
            let query = sqlx::query("UPDATE builds SET input = NULL WHERE id = ?");
            query.bind(id.0.as_bytes().to_vec()).execute(&mut *db).await?;
            answer(answers, reply, ());
        }
        Write::Recover(most, failure, reply) => answer(answers, reply, recover(db, most, failure).await?),
        Write::Remove(which, reply) => answer(answers, reply, remove(db, which).await?),
        Write::Extender([base, kind, extender], reply) => {
            sqlx::query("INSERT OR REPLACE INTO extenders VALUES (?, ?, ?)")
                .bind(base)
                .bind(kind)
                .bind(extender)
                .execute(&mut *db)
                .await?;
            answer(answers, reply, ());
        }
        Write::Tried(delivery, reply) => {
            webhooks::update(db, &delivery).await?;
            answer(answers, reply, ());
        }
        Write::Check(reply) => {
            sqlx::query("UPDATE installation SET only_row = 1").execute(&mut *db).await?;
            answer(answers, reply, ());
        }
    }
    Ok(())
}

async fn accept_unique(
    db: &mut SqliteConnection,
    mut build: Box<NewBuild>,
    reply: Reply<Accepted>,
    answers: &mut Answers,
) -> Result<(), LedgerError> {
    if let Some(content) = &build.content {
        let owner = build.target.owner().as_str().to_owned();
        let query = sqlx::query("SELECT * FROM builds WHERE owner = ? AND content_id = ?");
        let row = query.bind(&owner).bind(&content.id).fetch_optional(&mut *db).await?;
        if let Some(existing) = row.as_ref().map(Build::from_row).transpose()? {
            let gives_way = content.retry && matches!(existing.state, State::Failed | State::Cancelled);
            if !gives_way {
                answer(answers, reply, Accepted::Existing(Box::new(existing)));
                return Ok(());
            }
            let query = sqlx::query("UPDATE builds SET content_id = NULL WHERE id = ?");
            query.bind(&existing.id.0.as_bytes()[..]).execute(&mut *db).await?;
        }
    }
    let follows = match meet(db, &mut build).await? {
        Some(Meeting::Shares(existing)) => {
            answer(answers, reply, Accepted::Existing(existing));
            return Ok(());
        }
        Some(Meeting::Follows(other)) => other,
        None => return insert(db, vec![(build, reply)], answers).await,
    };
    let id = build.id.0.as_bytes().to_vec();
    insert_all(db, std::slice::from_mut(&mut build)).await?;
    let query = sqlx::query("UPDATE builds SET follows = ? WHERE id = ?").bind(follows.0.as_bytes().to_vec());
    query.bind(id).execute(&mut *db).await?;
    answer(answers, reply, Accepted::Follows(follows));
    Ok(())
}

/// How a build is spared by another one.
enum Meeting {
    /// That one is the answer.
    Shares(Box<Build>),
    /// It takes that one's image.
    Follows(BuildId),
}

/// Looks for a build that spares this one; marks it where all that there is has become stale.
async fn meet(db: &mut SqliteConnection, build: &mut NewBuild) -> Result<Option<Meeting>, LedgerError> {
    let Some(input) = build.input.as_ref().filter(|input| !input.fresh) else { return Ok(None) };
    let wanted = Wanted { registry: &build.registry, target: &build.target, input };
    Ok(match twins::find(db, wanted).await? {
        // Whoever has a key of their own is to find a build of their own by it, and whoever has a webhook is told of one.
        Twin::Same(same) if build.content.is_none() && build.webhook.is_none() && !same.state.is_terminal() => {
            Some(Meeting::Shares(same))
        }
        // Whose image another one takes can't be taken.
        Twin::Same(same) => {
            Some(Meeting::Follows(same.follows.filter(|_| !same.state.is_terminal()).unwrap_or(same.id)))
        }
        Twin::Other(other) => Some(Meeting::Follows(other)),
        Twin::Stale => {
            build.request.fresh = true;
            None
        }
        Twin::None => None,
    })
}

/// Finds a build another one whose image it takes, now that the one it waited for made none; else it makes its own.
async fn unfollow(db: &mut SqliteConnection, id: BuildId) -> Result<Option<BuildId>, LedgerError> {
    let maker = twins::maker(db, id).await?;
    let query =
        sqlx::query("UPDATE builds SET follows = ? WHERE id = ?").bind(maker.map(|id| id.0.as_bytes().to_vec()));
    query.bind(id.0.as_bytes().to_vec()).execute(db).await?;
    Ok(maker)
}

async fn insert(
    db: &mut SqliteConnection,
    builds: Vec<(Box<NewBuild>, Reply<Accepted>)>,
    answers: &mut Answers,
) -> Result<(), LedgerError> {
    let (mut builds, replies): (Vec<_>, Vec<_>) = builds.into_iter().unzip();
    insert_all(db, &mut builds).await?;
    for reply in replies {
        answer(answers, reply, Accepted::New);
    }
    Ok(())
}

async fn insert_all(db: &mut SqliteConnection, builds: &mut [Box<NewBuild>]) -> Result<(), LedgerError> {
    let mut rest = &builds[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(at_once(rest.len()));
        insert_rows(db, now).await?;
        rest = later;
    }
    let with_file = |build: &mut NewBuild| Some((build.id, build.file.take()?));
    let mut files: Vec<_> = builds.iter_mut().filter_map(|build| with_file(build)).collect();
    while !files.is_empty() {
        let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO files ");
        query.push_values(files.drain(..at_once(files.len())), |mut row, (id, bytes)| {
            row.push_bind(id.0.as_bytes().to_vec()).push_bind(bytes);
        });
        query.build().execute(&mut *db).await?;
    }
    for build in builds.iter() {
        if let Some(webhook) = &build.webhook {
            webhooks::insert(db, build.id, build.target.owner(), webhook).await?;
        }
    }
    Ok(())
}

/// How many of so many rows go into one statement: a power of two, because groups come in all sizes
/// and each size is a statement to prepare.
fn at_once(rows: usize) -> usize {
    1 << rows.ilog2()
}

async fn insert_rows(db: &mut SqliteConnection, builds: &[Box<NewBuild>]) -> Result<(), LedgerError> {
    let mut rows = Vec::with_capacity(builds.len());
    for build in builds {
        rows.push((build, serde_json::to_string(&build.request).map_err(|e| LedgerError::Corrupt(e.to_string()))?));
    }
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new(
        "INSERT INTO builds (id, owner, content_id, input, registry, repository, tag, request, sealed, state, accepted_at) ",
    );
    query.push_values(rows, |mut row, (build, request)| {
        row.push_bind(build.id.0.as_bytes().to_vec())
            .push_bind(build.target.owner().as_str().to_owned())
            .push_bind(build.content.as_ref().map(|c| c.id.clone()))
            .push_bind(build.input.as_ref().map(|input| input.hash.clone()))
            .push_bind(build.registry.clone())
            .push_bind(build.target.repository().to_owned())
            .push_bind(build.target.tag().to_owned())
            .push_bind(request)
            .push_bind(build.sealed.clone())
            .push_bind(State::Queued.as_str())
            .push_bind(build.accepted_at.as_millisecond());
    });
    query.build().execute(db).await?;
    Ok(())
}

async fn claim(db: &mut SqliteConnection, id: BuildId, lease: Duration) -> Result<Option<u32>, LedgerError> {
    let now = Timestamp::now().as_millisecond();
    let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let query = sqlx::query_scalar(
        "UPDATE builds SET state = 'running', attempt = attempt + 1, started_at = coalesce(started_at, ?), \
         lease_until = ? WHERE id = ? AND state = 'queued' RETURNING attempt",
    );
    let query = query.bind(now).bind(now.saturating_add(lease)).bind(id.0.as_bytes().to_vec());
    Ok(query.fetch_optional(db).await?)
}

async fn transition(
    db: &mut SqliteConnection,
    id: BuildId,
    attempt: u32,
    from: State,
    to: Change,
) -> Result<bool, LedgerError> {
    let state = to.state();
    let finished_at = state.is_terminal().then(|| Timestamp::now().as_millisecond());
    let (digest, extender, made_at, failure) = match to {
        Change::Pushed { digest, extender, made_at } => (Some(digest), extender, Some(made_at.as_millisecond()), None),
        Change::Failed(failure) | Change::Cancelled(failure) => (None, None, None, Some(text(&failure)?)),
        Change::Succeeded | Change::Requeued => (None, None, None, None),
    };
    let query = sqlx::query(
        "UPDATE builds SET state = ?1, finished_at = ?2, digest = coalesce(?3, digest), \
         extender = coalesce(?4, extender), made_at = coalesce(?9, made_at), failure = ?5, lease_until = NULL, \
         sealed = CASE WHEN ?2 IS NULL THEN sealed END WHERE id = ?6 AND attempt = ?7 AND state = ?8",
    );
    let query = query.bind(state.as_str()).bind(finished_at).bind(digest).bind(extender).bind(failure);
    let query = query.bind(id.0.as_bytes().to_vec()).bind(attempt).bind(from.as_str()).bind(made_at);
    let moved = query.execute(&mut *db).await?.rows_affected() == 1;
    if moved && state.is_terminal() {
        if state != State::Succeeded {
            keep_file(db, id).await?;
        }
        drop_file(db, id).await?;
    }
    Ok(moved)
}

async fn cancel(db: &mut SqliteConnection, id: BuildId, failure: Failure) -> Result<Option<State>, LedgerError> {
    let bytes = id.0.as_bytes().to_vec();
    let query = sqlx::query_scalar("SELECT state FROM builds WHERE id = ?").bind(bytes.clone());
    let found: Option<String> = query.fetch_optional(&mut *db).await?;
    let found = found.as_deref().map(State::parse).transpose()?;
    match found {
        Some(State::Queued) => {
            let query = sqlx::query(
                "UPDATE builds SET state = 'cancelled', cancelled = 1, finished_at = ?, failure = ?, sealed = NULL \
                 WHERE id = ?",
            );
            let query = query.bind(Timestamp::now().as_millisecond()).bind(text(&failure)?).bind(bytes);
            query.execute(&mut *db).await?;
            keep_file(db, id).await?;
            drop_file(db, id).await?;
        }
        Some(State::Running | State::Pushed) => {
            sqlx::query("UPDATE builds SET cancelled = 1 WHERE id = ?").bind(bytes).execute(db).await?;
        }
        _ => {}
    }
    Ok(found)
}

async fn recover(db: &mut SqliteConnection, most: u32, interrupted: Failure) -> Result<u64, LedgerError> {
    let now = Timestamp::now().as_millisecond();
    sqlx::query("UPDATE builds SET crashes = crashes + 1 WHERE state = 'running'").execute(&mut *db).await?;
    sqlx::query(
        "UPDATE builds SET state = 'failed', finished_at = ?, failure = ?, sealed = NULL \
         WHERE state = 'running' AND crashes >= ?",
    )
    .bind(now)
    .bind(text(&interrupted)?)
    .bind(most)
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM files WHERE build IN (SELECT id FROM builds WHERE finished_at IS NOT NULL)")
        .execute(&mut *db)
        .await?;
    let requeued = sqlx::query("UPDATE builds SET state = 'queued', lease_until = NULL WHERE state = 'running'");
    Ok(requeued.execute(db).await?.rows_affected())
}

async fn remove(db: &mut SqliteConnection, which: Cleanup) -> Result<Vec<BuildId>, LedgerError> {
    // One that an earlier build of its target must not overtake is still needed.
    let query = sqlx::query_scalar(
        "DELETE FROM builds WHERE seq IN (SELECT seq FROM builds AS b WHERE finished_at < ?1 \
         AND (?2 IS NULL OR owner = ?2) AND NOT EXISTS (SELECT 1 FROM builds AS earlier \
         WHERE earlier.state IN ('queued', 'running', 'pushed') AND earlier.seq < b.seq AND earlier.registry = b.registry \
         AND earlier.repository = b.repository AND earlier.tag = b.tag) LIMIT ?3) RETURNING id",
    );
    let query = query.bind(which.before.as_millisecond()).bind(which.owner.as_ref().map(|o| o.as_str().to_owned()));
    let ids: Vec<Vec<u8>> = query.bind(which.limit).fetch_all(db).await?;
    ids.iter().map(|id| Uuid::from_slice(id).map(BuildId).map_err(|e| LedgerError::Corrupt(e.to_string()))).collect()
}

/// Keeps the file of a build that could be tried again, and no more of its owner's than [`KEPT`].
async fn keep_file(db: &mut SqliteConnection, id: BuildId) -> Result<(), LedgerError> {
    let query = sqlx::query_scalar(
        "INSERT INTO kept_files SELECT owner, seq, bytes FROM files JOIN builds ON builds.id = files.build \
         WHERE files.build = ? AND length(bytes) <= ? RETURNING owner",
    );
    let owner: Option<String> = query.bind(id.0.as_bytes().to_vec()).bind(KEPT_BYTES).fetch_optional(&mut *db).await?;
    let Some(owner) = owner else { return Ok(()) };
    let query = sqlx::query(
        "DELETE FROM kept_files WHERE owner = ?1 AND build_seq <= \
         (SELECT build_seq FROM kept_files WHERE owner = ?1 ORDER BY build_seq DESC LIMIT 1 OFFSET ?2)",
    );
    query.bind(owner).bind(KEPT).execute(db).await?;
    Ok(())
}

/// A context isn't needed once its build has ended.
async fn drop_file(db: &mut SqliteConnection, id: BuildId) -> Result<(), LedgerError> {
    sqlx::query("DELETE FROM files WHERE build = ?").bind(id.0.as_bytes().to_vec()).execute(db).await?;
    Ok(())
}

fn text(failure: &Failure) -> Result<String, LedgerError> {
    serde_json::to_string(failure).map_err(|e| LedgerError::Corrupt(e.to_string()))
}

/// An id as the tables have it.
pub(super) fn id_of(id: BuildId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}
