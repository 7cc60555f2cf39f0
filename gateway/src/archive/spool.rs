//! A body on its way to disk: written once, hashed on the way, in a file without a name.

use std::{
    fs::File,
    io::{self, Write as _},
    num::NonZero,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use kiln_auth::{
    UserName,
    signature::{SignatureMismatch, Verifier},
};
use kiln_backends::Tree;
use tempfile::TempPath;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::{Compression, Limits, UnpackError, index::index, room, unpacking::Unpacking};

/// What is written and hashed at a time: large enough that handing it over costs nothing beside it.
/// Twice as much waits in memory at most.
const BATCH: usize = room::LOOK_EVERY;
/// Chunks of a batch, however small they are.
const CHUNKS: usize = 1024;

/// Where bodies are kept while they are builds.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    limits: Limits,
    unpacking: Unpacking,
}

/// A body on disk whose signature is right. Gone when dropped, unless it is kept.
#[derive(Debug)]
pub struct Spooled {
    file: File,
    /// Of one that may be kept.
    name: Option<TempPath>,
    length: u64,
    spool: Spool,
}

/// The body isn't there. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Larger than bodies may be.
    #[error("the body is larger than {0} bytes; leave files out, or compress it")]
    TooLarge(u64),
    /// The caller broke it off.
    #[error("the body ended before its end")]
    Body(#[source] BoxError),
    /// The wrong signature.
    #[error(transparent)]
    Signature(#[from] SignatureMismatch),
    /// The disk refuses, or has too little left.
    #[error("the body can't be spooled")]
    Spool(#[from] io::Error),
}

// === impl Spool ===

impl Spool {
    /// Keeps bodies below `dir`, which is there, and unpacks as many at once of each owner as there are
    /// processors, and twice as many in all.
    #[must_use]
    pub fn new(dir: PathBuf, limits: Limits) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self { dir, limits, unpacking: Unpacking::new(processors) }
    }

    /// Writes a body to disk while the verifier hashes it, if there is one, and says whose it is.
    ///
    /// Disk and hash work side by side, and the slower one slows the sender. They hold a thread only
    /// while they work: many slow senders must not take all of them. Not synced: a build whose caller
    /// waits ends with this process.
    ///
    /// # Errors
    /// When the body is too large, broken off, or signed by nobody who may.
    pub async fn receive<S, E>(
        &self,
        body: S,
        verifier: Option<Verifier>,
    ) -> Result<(Spooled, Option<UserName>), ReceiveError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<BoxError>,
    {
        let dir = self.dir.clone();
        let disk = tokio::task::spawn_blocking(move || tempfile::tempfile_in(dir));
        let hash = verifier.map(|verifier| tokio::task::spawn_blocking(move || verifier));
        let (file, length, verifier) = self.write(body, Work { disk, hash, free: self.limits.free }).await?;
        let signer = verifier.map(Verifier::finish).transpose()?;
        Ok((Spooled { file, name: None, length, spool: self.clone() }, signer))
    }

    /// Writes to disk a body whose sender is known, in a file with a name, so that it can be kept.
    ///
    /// # Errors
    /// When the body is too large or broken off.
    pub async fn receive_named<S, E>(&self, body: S) -> Result<Spooled, ReceiveError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<BoxError>,
    {
        let dir = self.dir.clone();
        let named = tokio::task::spawn_blocking(move || tempfile::NamedTempFile::new_in(dir));
        let (file, name) = named.await.map_err(stopped)??.into_parts();
        let disk = tokio::task::spawn_blocking(move || Ok(file));
        let (file, length, _) = self.write(body, Work { disk, hash: None, free: self.limits.free }).await?;
        Ok(Spooled { file, name: Some(name), length, spool: self.clone() })
    }

    /// Whether a body may come of which so many bytes are announced.
    ///
    /// # Errors
    /// When it is too large.
    pub fn admit(&self, announced: u64) -> Result<(), ReceiveError> {
        if announced > self.limits.body { Err(ReceiveError::TooLarge(self.limits.body)) } else { Ok(()) }
    }

    /// A body that was kept there.
    ///
    /// # Errors
    /// When it isn't, or can't be read.
    pub fn open(&self, path: &Path) -> io::Result<Spooled> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Spooled { file, name: None, length, spool: self.clone() })
    }

    async fn write<S, E>(&self, body: S, mut work: Work) -> Result<(File, u64, Option<Verifier>), ReceiveError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<BoxError>,
    {
        let mut body = std::pin::pin!(body);
        let (mut batch, mut batched) = (Vec::new(), 0);
        let mut length = 0_u64;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| ReceiveError::Body(error.into()))?;
            length = length.saturating_add(chunk.len() as u64);
            if length > self.limits.body {
                return Err(ReceiveError::TooLarge(self.limits.body));
            }
            batched += chunk.len();
            batch.push(chunk);
            if batched >= BATCH || batch.len() >= CHUNKS {
                work = work.then(std::mem::take(&mut batch)).await?;
                batched = 0;
            }
        }
        let (file, verifier) = work.then(batch).await?.done().await?;
        Ok((file, length, verifier))
    }
}

/// A batch on its way to disk and through the hash.
struct Work {
    disk: JoinHandle<io::Result<File>>,
    hash: Option<JoinHandle<Verifier>>,
    free: u64,
}

impl Work {
    /// Waits for this batch and begins with the next.
    async fn then(self, batch: Vec<Bytes>) -> io::Result<Self> {
        let free = self.free;
        let (mut file, verifier) = self.done().await?;
        let hash = verifier.map(|mut verifier| {
            let batch = batch.clone();
            tokio::task::spawn_blocking(move || {
                batch.iter().for_each(|chunk| verifier.update(chunk));
                verifier
            })
        });
        let disk = tokio::task::spawn_blocking(move || {
            room::look(&file, free)?;
            batch.iter().try_for_each(|chunk| file.write_all(chunk))?;
            Ok(file)
        });
        Ok(Self { disk, hash, free })
    }

    async fn done(self) -> io::Result<(File, Option<Verifier>)> {
        let file = self.disk.await.map_err(stopped)??;
        let verifier = match self.hash {
            Some(hash) => Some(hash.await.map_err(stopped)?),
            None => None,
        };
        Ok((file, verifier))
    }
}

/// A blocking task ends early only with the runtime, or by a panic.
fn stopped(error: JoinError) -> io::Error {
    io::Error::other(error)
}

// === impl Spooled ===

impl Spooled {
    /// Bytes of the body as it came.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Keeps it at `path`, also through a crash once this returns. Blocks.
    ///
    /// # Errors
    /// When the disk refuses, or it was received without a name.
    pub fn keep(self, path: &Path) -> io::Result<()> {
        let name = self.name.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        self.file.sync_all()?;
        name.persist(path)?;
        File::open(&self.spool.dir)?.sync_all()
    }

    /// The same body once more, for whoever only reads it.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn twin(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, name: None, length: self.length, spool: self.spool.clone() })
    }

    /// The SHA-256 of the body as it came. Blocks.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn digest(&self) -> io::Result<[u8; 32]> {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut piece = vec![0; 64 << 10];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut piece, at)? {
                0 => break,
                read => {
                    context.update(&piece[..read]);
                    at += read as u64;
                }
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Ok(hash)
    }

    /// The tree of the archive, once its owner has a turn. Dropping the future ends the work soon, and the
    /// file with it.
    ///
    /// # Errors
    /// When the archive is at fault, or the disk.
    pub async fn unpack(self, owner: &UserName) -> Result<Tree, UnpackError> {
        let turn = self.spool.unpacking.turn(owner).await.map_err(|_| UnpackError::Cancelled)?;
        let cancel = CancellationToken::new();
        let _guard = cancel.clone().drop_guard();
        let work = tokio::task::spawn_blocking(move || {
            // Given back by the work itself: it goes on for a moment when nobody waits for it any more.
            let _turn = turn;
            self.unpack_now(&cancel)
        });
        work.await.map_err(stopped)?
    }

    /// Blocks.
    pub(super) fn unpack_now(self, cancel: &CancellationToken) -> Result<Tree, UnpackError> {
        let Self { file, length, spool: Spool { dir, limits, .. }, name: _name } = self;
        let mut head = [0; Compression::LOOKS_AT];
        let known = usize::try_from(length).unwrap_or(usize::MAX).min(head.len());
        file.read_exact_at(&mut head[..known], 0)?;
        let (file, length) = match Compression::detect(&head[..known]) {
            None => (file, length),
            Some(compression) => {
                let plain = tempfile::tempfile_in(dir)?;
                let length = compression.decompress(&file, &plain, &limits, cancel)?;
                (plain, length)
            }
        };
        let tree = index(&file, length, &limits, cancel)?;
        Ok(tree.over(file))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use futures_util::stream;
    use kiln_auth::signature::{Keys, Signature, Signer};

    use super::*;

    /// The contract's vector.
    const BODY: &[u8] = b"Store this string";
    const SIGNATURE: &str = "sha256=e5be64930d119f5f805ff9b7d435197d2a3b54118c51d38365af6c3cb48ce24f";

    fn verifier(dir: &Path) -> Verifier {
        let key = dir.join("payload-secret");
        fs::write(&key, "key-goes-here\n").unwrap();
        let headers = http::HeaderMap::from_iter([("x-build-signature".parse().unwrap(), SIGNATURE.parse().unwrap())]);
        let signature = Signature::from_headers(&headers, SystemTime::now()).unwrap().unwrap();
        let signer = Signer { user: UserName::parse("openfaas").unwrap(), keys: vec![key] };
        Keys::read(&[signer]).unwrap().verifier(&signature)
    }

    fn body(chunks: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> {
        stream::iter(chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_body_is_kept_if_it_is_signed_and_nothing_of_it_otherwise() {
        let (dir, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spool = Spool::new(dir.path().to_owned(), Limits { body: 17, ..Limits::default() });
        let (spooled, signer) =
            spool.receive(body(&[&BODY[..5], b"", &BODY[5..]]), Some(verifier(keys.path()))).await.unwrap();
        assert_eq!((spooled.length(), signer.unwrap().as_str()), (17, "openfaas"));
        let mut kept = [0; 17];
        spooled.file.read_exact_at(&mut kept, 0).unwrap();
        assert_eq!(kept, BODY);

        let changed = spool.receive(body(&[b"Store this strinG"]), Some(verifier(keys.path()))).await;
        assert!(matches!(changed, Err(ReceiveError::Signature(_))));
        let large = spool.receive(body(&[BODY, b"!"]), Some(verifier(keys.path()))).await;
        assert!(matches!(large, Err(ReceiveError::TooLarge(17))));
        let broken = stream::iter([Ok(Bytes::from_static(BODY)), Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
        assert!(matches!(spool.receive(broken, None).await, Err(ReceiveError::Body(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a body has no name");
    }

    #[tokio::test]
    async fn a_spool_that_is_not_there_is_no_fault_of_the_caller() {
        let spool = Spool::new("/nonexistent".into(), Limits::default());
        assert!(matches!(spool.receive(body(&[BODY]), None).await, Err(ReceiveError::Spool(_))));
    }

    #[tokio::test]
    async fn a_body_that_would_leave_too_little_of_the_disk_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(dir.path().to_owned(), Limits { free: u64::MAX, ..Limits::default() });
        let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let refused = spool.receive(body(&[BODY]), None).await;
        assert!(matches!(&refused, Err(ReceiveError::Spool(error)) if full(error)), "{refused:?}");
    }
}
