//! Contexts of builds whose callers don't wait: files beside the ledger, there before their rows and gone after them.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use kiln_auth::{Place, Places, UserName};
use kiln_backends::{BuildArg, BuildId, Tree};
use serde::{Deserialize, Serialize};
use tower::BoxError;

use crate::{
    archive::{Limits, ReceiveError, Spool, Spooled, UnpackError},
    ledger::Build,
    recipes::Context,
    sealed::Secrets,
};

/// Contexts up to so many bytes are read once more for a hash, by which the engine knows one that it
/// has: less than sending them takes.
const HASHED: u64 = 16 << 20;

/// How a context is built.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ContextOptions {
    /// The Dockerfile's path within it.
    pub dockerfile: String,
    /// Build arguments.
    #[serde(default)]
    pub args: Vec<(String, String)>,
    /// The platforms to build for; empty is the engine's own.
    #[serde(default)]
    pub platforms: Vec<String>,
}

/// The contexts of builds that haven't ended.
#[derive(Clone, Debug)]
pub struct Stored {
    dir: PathBuf,
    spool: Spool,
    bytes: Places<UserName>,
    places: Arc<Mutex<HashMap<BuildId, Place<UserName>>>>,
}

/// A context that has come, of no build yet. Gone when dropped.
#[derive(Debug)]
pub struct Arrived {
    spooled: Spooled,
    place: Place<UserName>,
}

/// The owner has too much here.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("your contexts that wait to be built are too large together; try again when some builds have ended")]
pub struct TooMuchStored;

// === impl Stored ===

impl Stored {
    /// Keeps contexts below `dir`, so many bytes of each owner.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn open(dir: PathBuf, limits: Limits, per_owner: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let bytes = Places::new(usize::try_from(per_owner).unwrap_or(usize::MAX));
        Ok(Self { spool: Spool::new(dir.clone(), limits), dir, bytes, places: Arc::default() })
    }

    /// Writes a body of which `announced` bytes are to come at least.
    ///
    /// # Errors
    /// When it is too large, broken off, or there is no room for it: then with a [`TooMuchStored`].
    pub async fn receive<S>(&self, owner: &UserName, announced: u64, body: S) -> Result<Arrived, ReceiveError>
    where
        S: Stream<Item = Result<Bytes, BoxError>>,
    {
        self.spool.admit(announced)?;
        if usize::try_from(announced).map_or(true, |announced| announced > self.bytes.left(owner)) {
            return Err(ReceiveError::Body(TooMuchStored.into()));
        }
        let mut place = self.bytes.none(owner.clone());
        let body = body.map(|chunk| {
            let chunk = chunk?;
            if place.grow(chunk.len()) { Ok(chunk) } else { Err(BoxError::from(TooMuchStored)) }
        });
        let spooled = self.spool.receive_named(body).await?;
        Ok(Arrived { spooled, place })
    }

    /// Makes it a build's. Once this returns it outlives a crash.
    pub(super) async fn keep(&self, id: BuildId, arrived: Arrived) -> io::Result<()> {
        let Arrived { spooled, place } = arrived;
        let path = self.path(id);
        tokio::task::spawn_blocking(move || spooled.keep(&path)).await.map_err(io::Error::other)??;
        self.places().insert(id, place);
        Ok(())
    }

    /// The tree of a build's context.
    pub(super) async fn tree(&self, id: BuildId, owner: &UserName) -> Result<Tree, UnpackError> {
        let (spool, path) = (self.spool.clone(), self.path(id));
        let spooled = tokio::task::spawn_blocking(move || spool.open(&path)).await.map_err(io::Error::other)??;
        let tree = spooled.unpack(owner).await?;
        Ok(tokio::task::spawn_blocking(move || tree.hashed(HASHED)).await.map_err(io::Error::other)??)
    }

    /// Nobody asks for a build's context any more: the ledger has its end.
    pub(super) fn release(&self, id: BuildId) {
        let Some(place) = self.places().remove(&id) else { return };
        let path = self.path(id);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(build = %id, %error, "an ended build's context stays until the next start");
            }
            drop(place);
        });
    }

    /// Nobody knows whether the ledger has this build: the next start sees what its context is for.
    pub(super) fn leave(&self, id: BuildId) {
        self.places().remove(&id);
    }

    /// Takes up what an earlier process left for these builds, and removes what it left beside.
    pub(super) async fn recover(&self, unfinished: &[Build]) -> io::Result<()> {
        let owners = unfinished.iter().filter(|build| build.request.context.is_some());
        let mut owners: HashMap<_, _> =
            owners.map(|build| (build.id.to_string(), (build.id, build.owner().clone()))).collect();
        let stored = self.clone();
        let recovered = tokio::task::spawn_blocking(move || {
            for file in fs::read_dir(&stored.dir)? {
                let file = file?;
                match file.file_name().to_str().and_then(|name| owners.remove(name)) {
                    Some((id, owner)) => {
                        let mut place = stored.bytes.none(owner);
                        // What was accepted under a higher bound stays accepted.
                        let _ = place.grow(usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX));
                        stored.places().insert(id, place);
                    }
                    None => fs::remove_file(file.path())?,
                }
            }
            Ok(())
        });
        recovered.await.map_err(io::Error::other)?
    }

    fn path(&self, id: BuildId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn places(&self) -> MutexGuard<'_, HashMap<BuildId, Place<UserName>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Arrived ===

impl Arrived {
    /// Takes it apart, to see that it can be.
    ///
    /// # Errors
    /// When the archive is at fault, or the disk.
    pub async fn tree(&self, owner: &UserName) -> Result<Tree, UnpackError> {
        self.spooled.twin()?.unpack(owner).await
    }

    /// A hash of it as it came.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn digest(&self) -> io::Result<[u8; 32]> {
        let twin = self.spooled.twin()?;
        tokio::task::spawn_blocking(move || twin.digest()).await.map_err(io::Error::other)?
    }
}

// === impl ContextOptions ===

impl ContextOptions {
    /// What is built of a tree so.
    pub(super) fn context(&self, tree: Tree) -> Context {
        // Both were looked at when they came.
        let argument = |(name, value): &(String, String)| Some((BuildArg::parse(name).ok()?, value.clone()));
        Context {
            tree: Arc::new(tree),
            dockerfile: self.dockerfile.clone(),
            args: self.args.iter().filter_map(argument).collect(),
            platforms: self.platforms.iter().filter_map(|platform| platform.parse().ok()).collect(),
            frontend: None,
            secrets: Secrets::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn body(chunks: &'static [&'static [u8]]) -> impl Stream<Item = Result<Bytes, BoxError>> {
        stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))))
    }

    #[tokio::test]
    async fn an_owners_bytes_are_bounded_and_come_back_with_the_context() {
        let folder = tempfile::tempdir().unwrap();
        let stored = Stored::open(folder.path().join("contexts"), Limits::default(), 10).unwrap();
        let (one, two) = (UserName::parse("one").unwrap(), UserName::parse("two").unwrap());
        let kept = stored.receive(&one, 0, body(&[b"12345", b"678"])).await.unwrap();
        const TOO_MUCH: [(u64, &[&[u8]]); 2] = [(3, &[b""]), (0, &[b"12", b"3"])];
        for (announced, chunks) in TOO_MUCH {
            let error = stored.receive(&one, announced, body(chunks)).await.unwrap_err();
            assert!(matches!(error, ReceiveError::Body(cause) if cause.is::<TooMuchStored>()));
        }
        drop(stored.receive(&two, 10, body(&[b"1234567890"])).await.unwrap());
        let id = BuildId::new();
        stored.keep(id, kept).await.unwrap();
        assert_eq!(fs::read(stored.path(id)).unwrap(), b"12345678");
        assert_eq!(fs::read_dir(&stored.dir).unwrap().count(), 1, "what was refused is gone");
        stored.release(id);
        // The file goes first, and its bytes with it.
        let given_back = async {
            while stored.bytes.left(&one) < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), given_back).await.unwrap();
        assert_eq!(fs::read_dir(&stored.dir).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_no_unfinished_build_needs_is_removed_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let stored = Stored::open(folder.path().to_owned(), Limits::default(), 10).unwrap();
        for name in [BuildId::new().to_string(), ".tmpXyz".to_owned()] {
            fs::write(folder.path().join(name), "left").unwrap();
        }
        stored.recover(&[]).await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
