//! One header of a tar, 512 bytes, read as Go's `archive/tar` reads it: that is what the real
//! builders read with, and the engine.

use std::ops::Range;

use super::Fault;

/// The unit of an archive: headers are one block, and data is filled up to whole ones.
pub(super) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;

/// The fields that count. Owner, group, times and devices are nobody's business here.
#[derive(Debug)]
pub(super) struct Header<'b> {
    block: &'b [u8; BLOCK],
}

impl<'b> Header<'b> {
    /// Reads a block that isn't the end mark.
    pub(super) fn parse(block: &'b [u8; BLOCK]) -> Result<Self, Fault> {
        let said = number(&block[CHECKSUM]).ok_or(Fault::Checksum)?;
        // Its own field counts as blanks. Some old writers added up signed bytes.
        let bytes = || block.iter().enumerate().map(|(at, b)| if CHECKSUM.contains(&at) { b' ' } else { *b });
        let unsigned: u64 = bytes().map(u64::from).sum();
        let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
        if said == unsigned || i64::try_from(said) == Ok(signed) { Ok(Self { block }) } else { Err(Fault::Checksum) }
    }

    /// The name with its prefix, which only ustar has: GNU keeps times in those bytes.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.block[NAME]);
        let prefix = if self.block[MAGIC] == *b"ustar\0" { until_nul(&self.block[PREFIX]) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &'b [u8] {
        until_nul(&self.block[LINK])
    }

    pub(super) fn kind(&self) -> u8 {
        self.block[TYPE]
    }

    pub(super) fn size(&self) -> Result<u64, Fault> {
        number(&self.block[SIZE]).ok_or(Fault::Number("size"))
    }

    pub(super) fn mode(&self) -> Result<u32, Fault> {
        let mode = number(&self.block[MODE]).and_then(|mode| u32::try_from(mode).ok());
        mode.map(|mode| mode & 0o7777).ok_or(Fault::Number("mode"))
    }
}

/// Octal digits between blanks and NULs, or base 256 where the first bit is set; none is 0.
fn number(field: &[u8]) -> Option<u64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second bit is the sign, and no size or mode is negative. i64 is what readers have.
        let digits = [&[first & 0x7f], rest].concat();
        let value = digits.iter().try_fold(0_u64, |value, b| value.checked_mul(256)?.checked_add(u64::from(*b)))?;
        return (first & 0x40 == 0 && i64::try_from(value).is_ok()).then_some(value);
    }
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let from = field.iter().position(|b| !padding(b)).unwrap_or(field.len());
    let to = field.iter().rposition(|b| !padding(b)).map_or(from, |last| last + 1);
    let digit = |value: u64, b: &u8| matches!(b, b'0'..=b'7').then(|| value << 3 | u64::from(b - b'0'));
    field[from..to].iter().try_fold(0, digit)
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}
