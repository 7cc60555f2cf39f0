//! What can be wrong with an archive.

use std::{fmt, io};

use super::Compression;

/// How much of a path an error repeats, in characters.
const SHOWN: usize = 120;

/// The archive can't become a tree: the caller's business. Says which entry, what, and what next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchiveError {
    path: Option<String>,
    fault: Fault,
}

/// What is wrong with an archive or one of its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// No tar, and nothing that is decompressed here.
    #[error("the body is no tar, nor one in gzip, bzip2, xz or zstd")]
    NotTar,
    /// The decompressor refuses.
    #[error("the {0} data is damaged, cut off, or followed by something else; compress and send it again")]
    Compressed(Compression),
    /// Its window or dictionary needs more memory than it may have.
    #[error("the {0} data needs too much memory to decompress; use a lower level, and no --long or --ultra")]
    DecoderMemory(Compression),
    /// Becomes too much, at a ratio that no honest file has.
    #[error("decompresses to more than {0} times its size; send it uncompressed")]
    Ratio(u64),
    /// Becomes too much.
    #[error("is more than {0} bytes when unpacked, each name of a file counted; leave files out")]
    Unpacked(u64),
    /// Ends before its end mark.
    #[error("the archive ends too early; send it again")]
    Truncated,
    /// Goes on after its end mark.
    #[error("something other than zeros follows the archive's end; archives can't be concatenated")]
    Trailing,
    /// The header's checksum is wrong.
    #[error("a header's checksum is wrong: the archive is damaged")]
    Checksum,
    /// A number isn't one, is negative or too large.
    #[error("the header's {0} is no number that a file can have")]
    Number(&'static str),
    /// A record of an extended header isn't well formed.
    #[error("an extended (PAX) header is malformed")]
    Pax,
    /// A global header that changes what the entries are.
    #[error("a global extended header sets a path, size or character set for all entries; write it for each entry")]
    Global,
    /// An extended header larger than any name needs.
    #[error("an extended header is larger than 1 MiB")]
    ExtendedSize,
    /// Two headers say what the next entry is, and readers differ in which one counts.
    #[error("several extended headers of one kind, or a PAX and a GNU one, come before one entry")]
    Ambiguous,
    /// An extended header, and no entry.
    #[error("an extended header stands before no entry")]
    Dangling,
    /// An absolute path.
    #[error("the path is absolute; make the archive with relative ones")]
    Absolute,
    /// A path with `..`.
    #[error("the path contains `..`")]
    Parent,
    /// No path at all, or one of a file where only a folder can be.
    #[error("has no name")]
    Unnamed,
    /// A NUL within a name.
    #[error("the name contains a NUL")]
    Nul,
    /// Not UTF-8.
    #[error("the name isn't UTF-8, which is all that an engine takes; rename the file")]
    NotUtf8,
    /// Longer than a file system's names.
    #[error("a part of the path is longer than 255 bytes, or all of it than 4095")]
    LongName,
    /// Too many folders within one another.
    #[error("lies more than {0} folders deep")]
    Depth(usize),
    /// Too many entries.
    #[error("the archive has more than {0} entries, folders counted; leave some out")]
    Entries(usize),
    /// Too many bytes of names.
    #[error("the names in the archive are more than {0} bytes together")]
    Names(u64),
    /// A device.
    #[error("is a device; leave it out")]
    Device,
    /// A named pipe.
    #[error("is a named pipe; leave it out")]
    Pipe,
    /// A sparse file.
    #[error("is stored as a sparse file; make the archive without --sparse")]
    Sparse,
    /// A kind of entry that no build needs: a part of a volume, an incremental dump.
    #[error("is an entry of type {0:?}, which isn't supported; make the archive in the PAX, GNU or ustar format")]
    Type(char),
    /// A folder or link with bytes of its own, which some readers skip and others take for headers.
    #[error("is a folder or link, but has a size")]
    Sized,
    /// A symbolic link that leaves the archive.
    #[error("is a symbolic link that leaves the archive")]
    LinkLeaves,
    /// A hard link to nothing.
    #[error("is a hard link to something that isn't in the archive")]
    LinkMissing,
    /// A hard link to a folder.
    #[error("is a hard link to a folder")]
    LinkToFolder,
    /// Hard links in a ring.
    #[error("is a hard link to itself, by way of others perhaps")]
    LinkLoop,
    /// Something lies below a file or link.
    #[error("something else in the archive makes a folder of what is a file or link there")]
    BelowFile,
    /// A folder and something else have one path.
    #[error("is there both as a folder and as something else")]
    Conflict,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is at fault: the caller may read it.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The spool is at fault: the operator should.
    #[error("the spooled archive can't be read or written")]
    Spool(#[from] io::Error),
    /// Nobody wants it any more.
    #[error("given up before its end")]
    Cancelled,
}

// === impl ArchiveError ===

impl ArchiveError {
    /// A fault of the archive as a whole.
    #[must_use]
    pub fn whole(fault: Fault) -> Self {
        Self { path: None, fault }
    }

    /// A fault of the entry of that name, which may hold anything.
    #[must_use]
    pub fn entry(name: &[u8], fault: Fault) -> Self {
        let name = String::from_utf8_lossy(name);
        let mut shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if name.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        Self { path: Some(shown), fault }
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The entry's name, escaped and cut, where one entry is at fault.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "\"{path}\": {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

impl std::error::Error for ArchiveError {}
