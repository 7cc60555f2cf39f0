//! The durable record of builds: accepted means in here.
//!
//! One writer commits what many callers ask for in groups, so that a `fsync` is shared by all who
//! wait for it; readers have connections of their own and never wait for the writer.

mod list;
mod lock;
mod repository;
mod row;
mod seal;
mod twins;
mod webhooks;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::{hmac, rand};
use kiln_auth::UserName;
use kiln_backends::{BuildId, Failure, InstanceId, TenantKey};
use sqlx::{
    Connection as _, Row as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

pub use list::{Filter, Rows};
pub use lock::Lock;
pub use row::{Accepted, Build, Change, Cleanup, Content, NewBuild, State};
pub use seal::{Seal, Unsealable};
pub use twins::{Input, Wanted};
pub use webhooks::{Delivery, Outcome, Style, Webhook};
use write::{Write, Writer};

/// How long a statement waits for another process's lock, such as a backup's.
const BUSY: Duration = Duration::from_secs(10);

/// Readers: enough to keep two cores busy with index look-ups.
const READERS: u32 = 4;

/// Pages of the log between two checkpoints, 16 MiB. An acceptance takes some ten, and the one that
/// meets a checkpoint waits for the whole of it: rarer than one in a hundred keeps the slowest percent
/// quick.
const CHECKPOINT_PAGES: &str = "4000";

/// What each connection keeps of the database, KiB (negative means that, positive pages); the system's
/// cache is behind it.
const CACHE: &str = "-512";

/// The ledger of this installation.
#[derive(Clone, Debug)]
pub struct Ledger {
    readers: SqlitePool,
    writer: Writer,
    /// Wakes who looks for messages to be sent.
    written: Arc<Notify>,
    instance: InstanceId,
    tenant_key: hmac::Key,
}

/// The ledger can't do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed: disk full, permissions, corruption.
    #[error("the ledger failed: {0}")]
    Database(#[from] sqlx::Error),
    /// It was written by a newer Kiln, or its migration failed.
    #[error("the ledger can't be used by this version: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A stored row can't be read.
    #[error("a row of the ledger can't be read: {0}")]
    Corrupt(String),
    /// It shared a transaction that wasn't committed, or couldn't begin: disk full, permissions.
    #[error("nothing was written to the ledger: {0}")]
    NotWritten(String),
    /// The writer has stopped.
    #[error("the ledger is closed")]
    Closed,
}

impl Ledger {
    /// Opens the ledger in `folder`, making it if there is none.
    ///
    /// # Errors
    /// When the database can't be opened, or a newer Kiln has written it.
    pub async fn open(folder: &Path) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::new()
            .filename(Self::file_in(folder))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("cache_size", CACHE);
        // A file doesn't go away as a server does, so connections aren't tried before each use.
        let pool = |connections| SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
        let single = pool(1).connect_with(options.clone()).await?;
        sqlx::migrate!("src/ledger/migrations").run(&single).await?;
        let (instance, tenant_key) = installation(&single).await?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await?;
        let written = Arc::new(Notify::new());
        let writer = Writer::start(single, Arc::clone(&written));
        Ok(Self { readers, writer, written, instance, tenant_key })
    }

    /// Where the ledger of a data folder lies.
    #[must_use]
    pub fn file_in(folder: &Path) -> PathBuf {
        folder.join("ledger.sqlite")
    }

    /// This installation's identity.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// What keeps this owner's steps apart from everybody else's.
    #[must_use]
    pub fn tenant_key(&self, owner: &UserName) -> TenantKey {
        let tag = hmac::sign(&self.tenant_key, owner.as_str().as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(tag.as_ref());
        TenantKey::new(hash)
    }

    /// Records a build. When this returns `Ok` the build outlives a power cut.
    ///
    /// # Errors
    /// When nothing was recorded.
    pub async fn accept(&self, build: NewBuild) -> Result<Accepted, LedgerError> {
        self.write(|reply| Write::Accept(Box::new(build), reply)).await
    }

    /// Takes a queued build for a new attempt; `None` if it isn't queued any more.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn claim(&self, id: BuildId, lease: Duration) -> Result<Option<u32>, LedgerError> {
        self.write(|reply| Write::Claim(id, lease, reply)).await
    }

    /// Moves a build on, if `attempt` still holds it in state `from`.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn transition(&self, id: BuildId, attempt: u32, from: State, to: Change) -> Result<bool, LedgerError> {
        self.write(|reply| Write::Transition(id, attempt, from, to, reply)).await
    }

    /// Notes that the owner wants a build to stop, and gives the state it was found in. A queued one
    /// is cancelled at once; one that has ended stays as it is.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn request_cancel(&self, id: BuildId, failure: Failure) -> Result<Option<State>, LedgerError> {
        self.write(|reply| Write::Cancel(id, failure, reply)).await
    }

    /// Puts the builds of a dead process back into the queue, or ends those begun too often.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn recover(&self, crashes_at_most: u32, interrupted: Failure) -> Result<u64, LedgerError> {
        self.write(|reply| Write::Recover(crashes_at_most, interrupted, reply)).await
    }

    /// Has a build that waits for another's image look for a third that makes it, or else make its own; which.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn stop_following(&self, id: BuildId) -> Result<Option<BuildId>, LedgerError> {
        self.write(|reply| Write::Unfollow(id, reply)).await
    }

    /// Has nobody find a build by its input any more: it was made from something else.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn forget_input(&self, id: BuildId) -> Result<(), LedgerError> {
        self.write(|reply| Write::ForgetInput(id, reply)).await
    }

    /// Removes finished builds and returns their ids. One whose tag an earlier build could still
    /// take back stays until that has ended.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn remove_finished(&self, which: Cleanup) -> Result<Vec<BuildId>, LedgerError> {
        self.write(|reply| Write::Remove(which, reply)).await
    }

    /// Remembers which extender a base has for a kind.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn remember_extender(&self, base: &str, kind: &str, extender: &str) -> Result<(), LedgerError> {
        let row = [base.to_owned(), kind.to_owned(), extender.to_owned()];
        self.write(|reply| Write::Extender(row, reply)).await
    }

    /// Which extender a base was seen to have.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn extender(&self, base: &str, kind: &str) -> Result<Option<String>, LedgerError> {
        let query = sqlx::query_scalar("SELECT extender FROM extenders WHERE base = ? AND kind = ?");
        Ok(query.bind(base).bind(kind).fetch_optional(&self.readers).await?)
    }

    /// A build of this owner. Another's is `None`, as if it didn't exist.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn get(&self, owner: &UserName, id: BuildId) -> Result<Option<Build>, LedgerError> {
        let query = sqlx::query("SELECT * FROM builds WHERE id = ? AND owner = ?");
        let row = query.bind(&id.0.as_bytes()[..]).bind(owner.as_str()).fetch_optional(&self.readers).await?;
        row.as_ref().map(Build::from_row).transpose()
    }

    /// A build, whoever owns it: for the runner, never for a door.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn load(&self, id: BuildId) -> Result<Option<Build>, LedgerError> {
        let query = sqlx::query("SELECT * FROM builds WHERE id = ?");
        let row = query.bind(&id.0.as_bytes()[..]).fetch_optional(&self.readers).await?;
        row.as_ref().map(Build::from_row).transpose()
    }

    /// The build that this owner's `ensure` made for the content.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn by_content(&self, owner: &UserName, content_id: &str) -> Result<Option<Build>, LedgerError> {
        let query = sqlx::query("SELECT * FROM builds WHERE owner = ? AND content_id = ?");
        let row = query.bind(owner.as_str()).bind(content_id).fetch_optional(&self.readers).await?;
        row.as_ref().map(Build::from_row).transpose()
    }

    /// The file that came with a build.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn file(&self, id: BuildId) -> Result<Option<Vec<u8>>, LedgerError> {
        let query = sqlx::query_scalar("SELECT bytes FROM files WHERE build = ?");
        Ok(query.bind(&id.0.as_bytes()[..]).fetch_optional(&self.readers).await?)
    }

    /// The file of a build that failed or was cancelled, if it is one of its owner's last.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn kept_file(&self, owner: &UserName, seq: i64) -> Result<Option<Vec<u8>>, LedgerError> {
        let query = sqlx::query_scalar("SELECT bytes FROM kept_files WHERE owner = ? AND build_seq = ?");
        Ok(query.bind(owner.as_str()).bind(seq).fetch_optional(&self.readers).await?)
    }

    /// Every build without a terminal state, in the order of acceptance.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn unfinished(&self) -> Result<Vec<Build>, LedgerError> {
        let query = sqlx::query("SELECT * FROM builds WHERE state IN ('queued', 'running', 'pushed') ORDER BY seq");
        query.fetch_all(&self.readers).await?.iter().map(Build::from_row).collect()
    }

    /// Whether a build of the same target that was accepted later has already been committed: one that
    /// pushed nothing moved no tag.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn later_committed(&self, build: &Build) -> Result<bool, LedgerError> {
        let query = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM builds WHERE registry = ? AND repository = ? AND tag = ? AND seq > ? \
             AND state = 'succeeded' AND digest IS NOT NULL)",
        );
        let query = query.bind(&build.registry).bind(build.target.repository()).bind(build.target.tag());
        Ok(query.bind(build.seq).fetch_one(&self.readers).await?)
    }

    /// Writes a consistent copy of the ledger in `folder` to `file`, which must not exist, while builds
    /// go on. The ledger itself is only read: one of another version is copied as it is.
    ///
    /// # Errors
    /// When the ledger can't be read or the copy can't be written.
    pub async fn backup(folder: &Path, file: &Path) -> Result<(), LedgerError> {
        let path = file.to_str().ok_or_else(|| LedgerError::Corrupt("the path isn't UTF-8".to_owned()))?;
        let options = SqliteConnectOptions::new().filename(Self::file_in(folder)).read_only(true).busy_timeout(BUSY);
        let mut db = SqliteConnection::connect_with(&options).await?;
        sqlx::query("VACUUM INTO ?").bind(path).execute(&mut db).await?;
        Ok(db.close().await?)
    }

    /// Proves that a write reaches the disk.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn check(&self) -> Result<(), LedgerError> {
        self.write(Write::Check).await
    }

    async fn write<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Write,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(make(reply)).await?;
        answer.await.map_err(|_| LedgerError::NotWritten("a write in the same transaction failed".to_owned()))?
    }
}

/// Reads the installation's identity, or makes it in a new ledger.
async fn installation(pool: &SqlitePool) -> Result<(InstanceId, hmac::Key), LedgerError> {
    let mut secret = [0; 32];
    rand::fill(&mut secret).map_err(|_| LedgerError::Corrupt("no random numbers".to_owned()))?;
    let fresh = Uuid::new_v4();
    sqlx::query("INSERT INTO installation VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&fresh.as_bytes()[..])
        .bind(&secret[..])
        .execute(pool)
        .await?;
    let row = sqlx::query("SELECT instance, tenant_key FROM installation").fetch_one(pool).await?;
    let instance = Uuid::from_slice(row.try_get(0)?).map_err(|e| LedgerError::Corrupt(e.to_string()))?;
    Ok((InstanceId(instance), hmac::Key::new(hmac::HMAC_SHA256, row.try_get(1)?)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kiln_auth::{Scope, Target};
    use kiln_backends::Reason;

    use super::*;
    use crate::builds::Request;

    #[tokio::test]
    async fn a_ledger_that_a_newer_version_wrote_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let instance = Ledger::open(folder.path()).await.unwrap().instance();
        let file = SqliteConnectOptions::new().filename(folder.path().join("ledger.sqlite"));
        let newer = SqlitePool::connect_with(file).await.unwrap();
        let applied = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                       VALUES (999999999999, 'of a later version', TRUE, x'00', 0)";
        sqlx::query(applied).execute(&newer).await.unwrap();
        let refused = Ledger::open(folder.path()).await.unwrap_err();
        assert!(matches!(refused, LedgerError::Migration(_)), "{refused}");
        assert!(refused.to_string().starts_with("the ledger can't be used by this version"), "{refused}");
        sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 999999999999").execute(&newer).await.unwrap();
        assert_eq!(Ledger::open(folder.path()).await.unwrap().instance(), instance);
    }

    #[tokio::test]
    async fn a_backup_copies_the_ledger_of_a_running_gateway_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        ledger.remember_extender("sha256:0", "python", "bin").await.unwrap();
        let copies = tempfile::tempdir().unwrap();
        Ledger::backup(folder.path(), &Ledger::file_in(copies.path())).await.unwrap();
        let copy = Ledger::open(copies.path()).await.unwrap();
        assert_eq!(copy.instance(), ledger.instance());
        assert_eq!(copy.extender("sha256:0", "python").await.unwrap().as_deref(), Some("bin"));
        assert!(Ledger::backup(&folder.path().join("none"), &copies.path().join("other")).await.is_err());
        assert!(!folder.path().join("none").exists());
    }

    #[tokio::test]
    async fn the_files_of_an_owners_last_failures_are_kept_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let mut seqs = Vec::new();
        for at in 0..20_u8 {
            let owner = UserName::parse(if at == 0 { "other" } else { "devel" }).unwrap();
            let target = Target::parse(&format!("{owner}:t")).unwrap();
            let build = NewBuild {
                id: BuildId::new(),
                content: None,
                input: None,
                registry: "registry:5000".to_owned(),
                target: Scope::of(owner.clone()).admit(target).unwrap(),
                request: Request::default(),
                file: Some(vec![at; if at == 19 { 300_000 } else { 10 }]),
                sealed: None,
                webhook: None,
                accepted_at: Timestamp::now(),
            };
            let id = build.id;
            ledger.accept(build).await.unwrap();
            ledger.request_cancel(id, Failure::new(Reason::CancelledByUser, "enough")).await.unwrap();
            assert_eq!(ledger.file(id).await.unwrap(), None);
            seqs.push((owner.clone(), ledger.get(&owner, id).await.unwrap().unwrap().seq));
        }
        let mut kept = Vec::new();
        for (at, (owner, seq)) in seqs.iter().enumerate() {
            kept.extend(ledger.kept_file(owner, *seq).await.unwrap().map(|file| (at, file)));
        }
        // The other owner's only one, and the last sixteen but for the long one.
        let want = [0].into_iter().chain(3..19).map(|at| (at, vec![u8::try_from(at).unwrap(); 10]));
        assert_eq!(kept, want.collect::<Vec<_>>());
        let before = Timestamp::now().saturating_add(jiff::SignedDuration::from_secs(1)).unwrap();
        ledger.remove_finished(Cleanup { owner: None, before, limit: 100 }).await.unwrap();
        assert_eq!(ledger.kept_file(&seqs[5].0, seqs[5].1).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_folder_belongs_to_one_process_until_it_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        assert!(Lock::take(folder.path()).is_err());
        drop(first);
        assert!(Lock::take(folder.path()).is_ok());
    }
}
