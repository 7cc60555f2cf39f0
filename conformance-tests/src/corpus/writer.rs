//! Writes archives header by header, so that tests can say what no honest writer would.

use std::io::Write as _;

/// What headers and data come in, in bytes.
const BLOCK: usize = 512;

/// One header; its checksum is made when it is written, unless it was given one.
#[derive(Clone, Debug)]
pub struct Raw {
    block: [u8; BLOCK],
    sealed: bool,
}

/// An archive so far.
#[derive(Clone, Default, Debug)]
pub struct Tar(
    /// Its bytes, without the end mark.
    pub Vec<u8>,
);

/// A header of this kind, name and size.
#[must_use]
pub fn raw(kind: u8, name: &[u8], size: u64) -> Raw {
    Raw { block: [0; BLOCK], sealed: false }
        .set(0, &name[..name.len().min(100)])
        .set(100, b"0000644\0")
        .set(124, format!("{size:011o}\0").as_bytes())
        .set(156, &[kind])
        .set(257, b"ustar\x0000")
}

impl Raw {
    /// With bytes at a place.
    #[must_use]
    pub fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self.sealed = self.sealed || at == 148;
        self
    }

    /// With a link's target.
    #[must_use]
    pub fn link(self, target: &[u8]) -> Self {
        self.set(157, target)
    }

    /// With GNU's magic.
    #[must_use]
    pub fn gnu(self) -> Self {
        self.set(257, b"ustar  \0")
    }

    fn block(mut self) -> [u8; BLOCK] {
        if !self.sealed {
            self.block[148..156].fill(b' ');
            let sum: u32 = self.block.iter().map(|b| u32::from(*b)).sum();
            self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        self.block
    }
}

impl Tar {
    /// With a header and its data, padded.
    #[must_use]
    pub fn entry(mut self, header: Raw, data: &[u8]) -> Self {
        self.0.extend(header.block());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// With a file.
    #[must_use]
    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.entry(raw(b'0', name.as_bytes(), data.len() as u64), data)
    }

    /// With a folder.
    #[must_use]
    pub fn dir(self, name: &str) -> Self {
        self.entry(raw(b'5', name.as_bytes(), 0), b"")
    }

    /// With a symbolic link.
    #[must_use]
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(raw(b'2', name.as_bytes(), 0).link(target.as_bytes()), b"")
    }

    /// With a hard link.
    #[must_use]
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(raw(b'1', name.as_bytes(), 0).link(target.as_bytes()), b"")
    }

    /// An extended header of that kind with bytes of any kind.
    #[must_use]
    pub fn extended(self, kind: u8, bytes: &[u8]) -> Self {
        self.entry(raw(kind, b"././@LongLink", bytes.len() as u64), bytes)
    }

    /// With a PAX header of these records.
    #[must_use]
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.extended(b'x', &records)
    }

    /// The bytes, with the end mark.
    #[must_use]
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// `<length> <key>=<value>\n`, its length its own digits included.
#[must_use]
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) + rest != length {
        length = rest + digits(length);
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Compressed by gzip.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compressed by bzip2.
#[must_use]
pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With a dictionary of so many bytes, which is what its reader needs of memory.
#[must_use]
pub fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
    use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
    let mut options = LzmaOptions::new_preset(0).unwrap();
    options.dict_size(dictionary);
    let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compressed by zstd.
#[must_use]
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}
