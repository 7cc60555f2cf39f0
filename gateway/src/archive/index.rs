//! Reads the headers of a tar that lies in a file, and nothing else of it.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use kiln_backends::TreeBuilder;
use tokio_util::sync::CancellationToken;

use super::{
    ArchiveError, Fault, Limits, UnpackError,
    header::{BLOCK, Header},
    nodes::{Node, Nodes},
    path::{entry_path, link_target},
    pax::Extended,
};

/// The most that an extended header may be: `archive/tar` reads no more either.
const LONGEST_EXTENDED: u64 = 1 << 20;
/// What is read at a time of the zeros behind the end mark.
const ZEROS: usize = 64 * 1024;

/// Walks an archive, block by block.
struct Reader<'a> {
    file: &'a File,
    length: u64,
    limits: &'a Limits,
    at: u64,
    pending: Pending,
    nodes: Nodes<'a>,
}

/// The headers that came before the next entry, at most one of each kind.
#[derive(Default)]
struct Pending {
    pax: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// The index of a plain tar of `length` bytes, with the positions of its files in `file`. An empty
/// body is an archive of nothing, as for the real builders.
pub(super) fn index(
    file: &File,
    length: u64,
    limits: &Limits,
    cancel: &CancellationToken,
) -> Result<TreeBuilder, UnpackError> {
    let pending = Pending::default();
    let mut reader = Reader { file, length, limits, at: 0, pending, nodes: Nodes::new(limits) };
    if length == 0 {
        return Ok(reader.nodes.finish()?);
    }
    if length < BLOCK as u64 {
        return Err(ArchiveError::whole(Fault::NotTar).into());
    }
    loop {
        if cancel.is_cancelled() {
            return Err(UnpackError::Cancelled);
        }
        let first = reader.at == 0;
        let block = reader.block()?;
        if block == [0; BLOCK] {
            reader.end()?;
            return Ok(reader.nodes.finish()?);
        }
        match Header::parse(&block) {
            Ok(header) => reader.entry(&header)?,
            // Where nothing was a tar so far, it is likelier something else than damaged.
            Err(_) if first => return Err(ArchiveError::whole(Fault::NotTar).into()),
            Err(fault) => return Err(ArchiveError::whole(fault).into()),
        }
    }
}

impl Reader<'_> {
    fn block(&mut self) -> Result<[u8; BLOCK], UnpackError> {
        let mut block = [0; BLOCK];
        let at = self.skip(BLOCK as u64).map_err(ArchiveError::whole)?;
        self.file.read_exact_at(&mut block, at)?;
        Ok(block)
    }

    /// Goes past so many bytes and what fills them up to a block; gives their position.
    fn skip(&mut self, size: u64) -> Result<u64, Fault> {
        let at = self.at;
        let end = size.checked_next_multiple_of(BLOCK as u64).and_then(|size| at.checked_add(size));
        match end.filter(|end| *end <= self.length) {
            Some(end) => self.at = end,
            None => return Err(Fault::Truncated),
        }
        Ok(at)
    }

    fn entry(&mut self, header: &Header<'_>) -> Result<(), UnpackError> {
        match header.kind() {
            b'x' => {
                let records = self.extended(header)?;
                let parsed = Extended::parse(&records).map_err(ArchiveError::whole)?;
                once(&mut self.pending.pax, parsed)?;
            }
            b'g' => {
                let records = self.extended(header)?;
                Extended::check_global(&records).map_err(ArchiveError::whole)?;
            }
            b'L' => {
                let name = self.extended(header)?;
                once(&mut self.pending.long_name, without_nul(name))?;
            }
            b'K' => {
                let link = self.extended(header)?;
                once(&mut self.pending.long_link, without_nul(link))?;
            }
            kind => {
                let Pending { pax, long_name, long_link } = std::mem::take(&mut self.pending);
                let pax = pax.unwrap_or_default();
                if (pax.path.is_some() && long_name.is_some()) || (pax.link.is_some() && long_link.is_some()) {
                    return Err(ArchiveError::whole(Fault::Ambiguous).into());
                }
                let name = pax.path.or(long_name).unwrap_or_else(|| header.name());
                let link = pax.link.or(long_link).unwrap_or_else(|| header.link().to_vec());
                let fault = |fault| ArchiveError::entry(&name, fault);
                if pax.sparse || kind == b'S' {
                    return Err(fault(Fault::Sparse).into());
                }
                let size = match pax.size {
                    Some(size) => size,
                    None => header.size().map_err(fault)?,
                };
                let path = entry_path(&name, self.limits).map_err(fault)?;
                let node = self.node(header, &path, &name, &link, size).map_err(fault)?;
                if path.is_empty() {
                    // The root is there; `tar -C dir .` says so once more.
                    return if matches!(node, Node::Dir { .. }) { Ok(()) } else { Err(fault(Fault::Unnamed).into()) };
                }
                self.nodes.insert(path, node).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// What an entry is; goes past its bytes.
    fn node(&mut self, header: &Header<'_>, path: &str, name: &[u8], link: &[u8], size: u64) -> Result<Node, Fault> {
        let mode = header.mode()?;
        let without_bytes = |node| if size == 0 { Ok(node) } else { Err(Fault::Sized) };
        match header.kind() {
            // The oldest archives have no type for folders, but a slash.
            0 | b'0' if name.ends_with(b"/") => without_bytes(Node::Dir { mode }),
            0 | b'0' | b'7' => Ok(Node::File { mode, offset: self.skip(size)?, size }),
            b'1' => without_bytes(Node::HardLink { target: entry_path(link, self.limits)? }),
            b'2' => without_bytes(Node::Symlink { target: link_target(path, link)? }),
            b'3' | b'4' => Err(Fault::Device),
            b'5' => without_bytes(Node::Dir { mode }),
            b'6' => Err(Fault::Pipe),
            other => Err(Fault::Type(other.into())),
        }
    }

    /// The bytes of an extended header.
    fn extended(&mut self, header: &Header<'_>) -> Result<Vec<u8>, UnpackError> {
        let size = header.size().map_err(ArchiveError::whole)?;
        if size > LONGEST_EXTENDED {
            return Err(ArchiveError::whole(Fault::ExtendedSize).into());
        }
        let at = self.skip(size).map_err(ArchiveError::whole)?;
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// After the first block of zeros: only zeros to the body's end. One block is enough; GNU tar
    /// takes that too, with a warning.
    fn end(&mut self) -> Result<(), UnpackError> {
        if self.pending.pax.is_some() || self.pending.long_name.is_some() || self.pending.long_link.is_some() {
            return Err(ArchiveError::whole(Fault::Dangling).into());
        }
        let mut zeros = vec![0; ZEROS];
        while self.at < self.length {
            let read = match self.file.read_at(&mut zeros, self.at) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            if zeros[..read].iter().any(|b| *b != 0) {
                return Err(ArchiveError::whole(Fault::Trailing).into());
            }
            self.at += read as u64;
        }
        Ok(())
    }
}

/// Keeps what comes before an entry. Of two, GNU tar joins them, Go's reader takes the last.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), ArchiveError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ArchiveError::whole(Fault::Ambiguous)),
    }
}

/// GNU's long names end with a NUL. One that has more within is refused as any other name.
fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    name.truncate(end);
    name
}
