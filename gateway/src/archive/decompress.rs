//! Compressed archives, told by their first bytes, decompressed once into a second unnamed file.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::{read::XzDecoder, stream};
use tokio_util::sync::CancellationToken;

use super::{ArchiveError, Fault, Limits, UnpackError, room};

/// What is read and written at a time.
const CHUNK: usize = 128 * 1024;

/// How an archive is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// gzip, of one member or several.
    Gzip,
    /// bzip2, of one stream or several.
    Bzip2,
    /// xz, of one stream or several.
    Xz,
    /// Zstandard, of one frame or several.
    Zstd,
}

impl Compression {
    /// How much of a body [`Compression::detect`] looks at.
    pub(super) const LOOKS_AT: usize = 10;

    /// What a body that begins so is compressed with. Never a plain tar: none of these is the
    /// beginning of a UTF-8 name but bzip2's, which is therefore held against the ten bytes that
    /// every such stream has.
    pub(super) fn detect(head: &[u8]) -> Option<Self> {
        let bzip2 = |head: &[u8]| {
            let begins = |magic: [u8; 6]| head.starts_with(b"BZh") && head.get(4..10) == Some(&magic[..]);
            begins([0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) || begins([0x17, 0x72, 0x45, 0x38, 0x50, 0x90])
        };
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // A frame, or one of the kind to be skipped with which pzstd begins.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            head if bzip2(head) => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// Decompresses `from` into `to`; gives the number of bytes.
    pub(super) fn decompress(
        self,
        from: &File,
        mut to: &File,
        limits: &Limits,
        cancel: &CancellationToken,
    ) -> Result<u64, UnpackError> {
        let read = Arc::new(AtomicU64::new(0));
        let source = BufReader::with_capacity(CHUNK, Counted { file: from, at: Arc::clone(&read) });
        let mut decoder = self.decoder(source, limits)?;
        let mut chunk = vec![0; CHUNK];
        let (mut written, mut looked) = (0_u64, 0);
        room::look(to, limits.free)?;
        loop {
            if cancel.is_cancelled() {
                return Err(UnpackError::Cancelled);
            }
            let size = match decoder.read(&mut chunk) {
                Ok(0) => return Ok(written),
                Ok(size) => size,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(e)),
            };
            written += size as u64;
            if written > limits.unpacked {
                return Err(ArchiveError::whole(Fault::Unpacked(limits.unpacked)).into());
            }
            let allowed = read.load(Ordering::Relaxed).saturating_mul(limits.ratio).max(limits.ratio_free);
            if written > allowed {
                return Err(ArchiveError::whole(Fault::Ratio(limits.ratio)).into());
            }
            if written - looked >= room::LOOK_EVERY as u64 {
                room::look(to, limits.free)?;
                looked = written;
            }
            to.write_all(&chunk[..size])?;
        }
    }

    fn decoder<'r>(self, source: impl BufRead + 'r, limits: &Limits) -> Result<Box<dyn Read + 'r>, UnpackError> {
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(source)),
            Self::Bzip2 => Box::new(MultiBzDecoder::new(source)),
            Self::Xz => {
                let stream = stream::Stream::new_stream_decoder(limits.decoder_memory, stream::CONCATENATED);
                Box::new(XzDecoder::new_stream(source, stream.map_err(io::Error::from)?))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(limits.decoder_memory.max(1).ilog2())?;
                Box::new(decoder)
            }
        })
    }

    fn failed(self, error: io::Error) -> UnpackError {
        // Only the file's own errors have a number.
        if error.raw_os_error().is_some() {
            return error.into();
        }
        let memory = error.get_ref().is_some_and(|inner| {
            matches!(inner.downcast_ref::<stream::Error>(), Some(stream::Error::MemLimit))
                || inner.to_string().contains("too much memory")
        });
        ArchiveError::whole(if memory { Fault::DecoderMemory(self) } else { Fault::Compressed(self) }).into()
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

/// A file from its beginning, and how much of it was read.
struct Counted<'f> {
    file: &'f File,
    at: Arc<AtomicU64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.at.load(Ordering::Relaxed))?;
        self.at.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
