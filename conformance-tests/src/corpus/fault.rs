//! What is wrong with an archive, in the words that its sender reads.

use std::fmt;

/// A compression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

/// What is wrong; shown, it is a part of the sentence that no other fault's has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Fault {
    NotTar,
    Compressed(Codec),
    DecoderMemory(Codec),
    Ratio(u64),
    Unpacked(u64),
    Truncated,
    Trailing,
    Checksum,
    Number(&'static str),
    Pax,
    Global,
    ExtendedSize,
    Ambiguous,
    Dangling,
    Absolute,
    Parent,
    Unnamed,
    Nul,
    NotUtf8,
    LongName,
    Depth(usize),
    Entries(usize),
    Names(u64),
    Device,
    Pipe,
    Sparse,
    Type(char),
    Sized,
    LinkLeaves,
    LinkMissing,
    LinkToFolder,
    LinkLoop,
    BelowFile,
    Conflict,
}

impl Fault {
    /// Whether it is one only for the corpus's own [`bounds`](super::bounds), of which a gateway's settings name
    /// the first four alone but for what an archive may become at any ratio.
    #[must_use]
    pub fn is_of_fixed_bounds(self) -> bool {
        matches!(self, Self::Ratio(_) | Self::Names(_) | Self::Depth(_) | Self::DecoderMemory(_))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Compressed(codec) => return write!(f, "the {codec} data is damaged, cut off"),
            Self::DecoderMemory(codec) => return write!(f, "the {codec} data needs too much memory"),
            Self::Ratio(ratio) => return write!(f, "decompresses to more than {ratio} times its size"),
            Self::Unpacked(bytes) => return write!(f, "is more than {bytes} bytes when unpacked"),
            Self::Number(field) => return write!(f, "the header's {field} is no number"),
            Self::Depth(depth) => return write!(f, "lies more than {depth} folders deep"),
            Self::Entries(entries) => return write!(f, "more than {entries} entries"),
            Self::Names(bytes) => return write!(f, "the names in the archive are more than {bytes} bytes"),
            Self::Type(kind) => return write!(f, "is an entry of type {kind:?}"),
            Self::NotTar => "the body is no tar",
            Self::Truncated => "the archive ends too early",
            Self::Trailing => "something other than zeros follows the archive's end",
            Self::Checksum => "a header's checksum is wrong",
            Self::Pax => "an extended (PAX) header is malformed",
            Self::Global => "a global extended header sets",
            Self::ExtendedSize => "an extended header is larger than 1 MiB",
            Self::Ambiguous => "several extended headers of one kind",
            Self::Dangling => "an extended header stands before no entry",
            Self::Absolute => "the path is absolute",
            Self::Parent => "the path contains `..`",
            Self::Unnamed => "has no name",
            Self::Nul => "the name contains a NUL",
            Self::NotUtf8 => "the name isn't UTF-8",
            Self::LongName => "longer than 255 bytes",
            Self::Device => "is a device",
            Self::Pipe => "is a named pipe",
            Self::Sparse => "is stored as a sparse file",
            Self::Sized => "is a folder or link, but has a size",
            Self::LinkLeaves => "is a symbolic link that leaves the archive",
            Self::LinkMissing => "is a hard link to something that isn't in the archive",
            Self::LinkToFolder => "is a hard link to a folder",
            Self::LinkLoop => "is a hard link to itself",
            Self::BelowFile => "makes a folder of what is a file or link",
            Self::Conflict => "is there both as a folder and as something else",
        };
        f.write_str(sentence)
    }
}
