//! One record on disk: `length | crc | seq | time | kind | step | bytes`, little-endian.

use std::io::{self, Read};

use bytes::Bytes;
use jiff::Timestamp;

/// `length` (4) and `crc` (4); the length and the checksum are of what follows them.
const PREFIX: usize = 8;
/// `seq` (8), `time` in microseconds since 1970 (8), `kind` (1), `step` (4).
const FIXED: usize = 21;
/// The longest record; an engine sends chunks of some KiB.
const LONGEST: usize = 1 << 20;

/// A record of a build's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its number, from 1; also its offset for those who come back.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: RecordKind,
    /// The step it belongs to, 0 for none.
    pub step: u32,
    /// Its text or bytes.
    pub bytes: Bytes,
}

/// What a record says. The numbers are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RecordKind {
    /// An attempt began; the bytes are its number.
    Attempt = 1,
    /// A step began; the bytes are its name.
    Step = 2,
    /// A step ended well.
    StepDone = 3,
    /// A step's result came from the cache.
    StepCached = 4,
    /// A step failed; the bytes say why.
    StepFailed = 5,
    /// A step wrote to standard output.
    Stdout = 6,
    /// A step wrote to standard error.
    Stderr = 7,
    /// Something the caller should know.
    Warning = 8,
    /// Something that Kiln itself did.
    Note = 9,
    /// Output is missing from here on.
    Clipped = 10,
    /// The build ended; the bytes are its state, and after a colon the reason and the message.
    End = 11,
}

impl RecordKind {
    const ALL: [Self; 11] = [
        Self::Attempt,
        Self::Step,
        Self::StepDone,
        Self::StepCached,
        Self::StepFailed,
        Self::Stdout,
        Self::Stderr,
        Self::Warning,
        Self::Note,
        Self::Clipped,
        Self::End,
    ];

    /// The word for the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Step => "step",
            Self::StepDone => "step-done",
            Self::StepCached => "step-cached",
            Self::StepFailed => "step-failed",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Clipped => "clipped",
            Self::End => "end",
        }
    }

    pub(super) fn is_output(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr)
    }
}

impl Record {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let bytes = &self.bytes[..self.bytes.len().min(LONGEST - FIXED)];
        let start = into.len();
        // At most LONGEST, which fits.
        into.extend_from_slice(&((FIXED + bytes.len()) as u32).to_le_bytes());
        into.extend_from_slice(&[0; 4]);
        into.extend_from_slice(&self.seq.to_le_bytes());
        into.extend_from_slice(&self.time.as_microsecond().to_le_bytes());
        into.push(self.kind as u8);
        into.extend_from_slice(&self.step.to_le_bytes());
        into.extend_from_slice(bytes);
        let crc = crc32fast::hash(&into[start + PREFIX..]);
        into[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the next record and how many bytes it took; `None` where the log ends or is torn.
    pub(super) fn decode(from: &mut impl Read) -> io::Result<Option<(Self, u64)>> {
        let mut prefix = [0; PREFIX];
        if !fill(from, &mut prefix)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let crc = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        if !(FIXED..=LONGEST).contains(&length) {
            return Ok(None);
        }
        let mut body = vec![0; length];
        if !fill(from, &mut body)? || crc32fast::hash(&body) != crc {
            return Ok(None);
        }
        Ok(Self::from_body(body.into()).map(|record| (record, (PREFIX + length) as u64)))
    }

    fn from_body(body: Bytes) -> Option<Self> {
        let seq = u64::from_le_bytes(body[..8].try_into().ok()?);
        let time = i64::from_le_bytes(body[8..16].try_into().ok()?);
        let step = u32::from_le_bytes(body[17..21].try_into().ok()?);
        Some(Self {
            seq,
            time: Timestamp::from_microsecond(time).ok()?,
            kind: RecordKind::ALL.into_iter().find(|kind| *kind as u8 == body[16])?,
            step,
            bytes: body.slice(FIXED..),
        })
    }
}

/// Fills `buf`; false where the bytes end before.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
