//! A folder as the tar that `kiln build` sends: written as it is sent, and never whole anywhere.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use indicatif::ProgressBar;
use kiln_backends::{IgnoreFile, IgnoredFolder};
use rustix::fs::OFlags;
use tokio::sync::mpsc;

const IGNORE_FILE: &str = ".dockerignore";

/// What is handed to the connection at once, bytes.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the connection.
const AHEAD: usize = 4;

/// A folder that is to be sent.
pub(crate) struct Folder {
    root: PathBuf,
    ignore: IgnoreFile,
    /// What is sent whatever the ignore file says: the frontend reads them itself.
    always: Vec<String>,
}

/// Something in the folder can't be read, or not be named.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unsendable(String);

/// Where the archive goes.
type Archive = tar::Builder<BufWriter<Pieces>>;

impl Folder {
    /// With what its ignore file says, or that of its Dockerfile's own.
    pub(crate) fn open(root: &Path, dockerfile: &str) -> Result<Self, String> {
        let dockerfile = dockerfile.strip_prefix("./").unwrap_or(dockerfile);
        let own = format!("{dockerfile}.dockerignore");
        let ignore = IgnoreFile::parse(&ignore_text(root, [&own, IGNORE_FILE])?)
            .map_err(|error| format!("the ignore file: {error}"))?;
        Ok(Self { root: root.to_owned(), ignore, always: vec![dockerfile.to_owned(), own, IGNORE_FILE.to_owned()] })
    }

    /// The archive, as fast as it is taken. What can't be read ends it with an error, so that no part is taken for all.
    pub(crate) fn archive(self, sent: ProgressBar) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (pieces, taken) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let out = Pieces { pieces: pieces.clone(), sent };
            if let Err(error) = self.write(BufWriter::with_capacity(PIECE, out)) {
                // Nobody listens where the gateway has said no.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        stream::unfold(taken, async |mut taken| taken.recv().await.map(|piece| (piece, taken)))
    }

    fn write(&self, out: BufWriter<Pieces>) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        self.folder(&mut archive, "", &IgnoredFolder::default())?;
        archive.into_inner()?.flush()
    }

    /// What lies in a folder, in the order of the names, so that one folder is always the same archive.
    fn folder(&self, archive: &mut Archive, at: &str, known: &IgnoredFolder) -> io::Result<()> {
        let named = |error: io::Error| naming(&self.root.join(at), &error);
        let entries: io::Result<Vec<_>> = fs::read_dir(self.root.join(at)).map_err(named)?.collect();
        let mut entries = entries.map_err(named)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| named(io::Error::other(format!("{name:?} is no UTF-8"))))?;
            let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
            let (ignored, known) = self.ignore.ignores(&path, known);
            let ignored = ignored && !self.always.contains(&path);
            let metadata = entry.metadata().map_err(|error| naming(&entry.path(), &error))?;
            if metadata.is_dir() {
                if !ignored {
                    archive.append_data(&mut header(&metadata, tar::EntryType::Directory), &path, io::empty())?;
                }
                if !ignored || self.holds_more(&path) {
                    self.folder(archive, &path, &known)?;
                }
            } else if !ignored {
                add(archive, &entry.path(), &path, &metadata)?;
            }
        }
        Ok(())
    }

    /// Whether a folder that is left out holds something that isn't.
    fn holds_more(&self, path: &str) -> bool {
        let within = |name: &String| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        self.ignore.has_exceptions() || self.always.iter().any(within)
    }
}

/// The first of these files that is there; else nothing is ignored.
fn ignore_text(root: &Path, names: [&str; 2]) -> Result<String, String> {
    for name in names {
        match fs::read_to_string(root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read.map_err(|error| format!("{name}: {error}")),
        }
    }
    Ok(String::new())
}

/// A file or a link. What else there may be, no image can be given.
fn add(archive: &mut Archive, from: &Path, path: &str, metadata: &fs::Metadata) -> io::Result<()> {
    let named = |error: io::Error| naming(from, &error);
    if metadata.is_symlink() {
        let target = fs::read_link(from).map_err(named)?;
        return archive.append_link(&mut header(metadata, tar::EntryType::Symlink), path, target);
    }
    if !metadata.is_file() {
        eprintln!("kiln: {path} is no file, folder or link, and isn't sent");
        return Ok(());
    }
    // A link that has taken the file's place since leads out of the folder, perhaps.
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(no_link).open(from).map_err(named)?;
    let metadata = file.metadata().map_err(named)?;
    let whole = Whole { file, left: metadata.len() };
    archive.append_data(&mut header(&metadata, tar::EntryType::Regular), path, whole).map_err(named)
}

/// Whose a file is on this machine is nothing to others.
fn header(metadata: &fs::Metadata, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_size(if kind == tar::EntryType::Regular { metadata.len() } else { 0 });
    header
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), Unsendable(format!("{}: {error}", path.display())))
}

/// A file of the length that was announced: neither more nor less.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = Read::by_ref(&mut self.file).take(self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "became shorter while it was sent"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// What is written goes to the connection, piece by piece.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    sent: ProgressBar,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.sent.inc(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
