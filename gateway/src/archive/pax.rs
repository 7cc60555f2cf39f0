//! Extended headers: PAX records, `<length> <key>=<value>\n`, and what they say of the next entry.

use super::Fault;

/// What the headers before an entry say of it.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: bool,
}

impl Extended {
    /// Reads the records of one header. Whatever isn't named here is a time, an owner, an attribute
    /// that no build needs, or a comment.
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, Fault> {
        let mut extended = Self::default();
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or(Fault::Pax)?;
            records = rest;
            // An empty value takes back what came before.
            let value = Some(value).filter(|value| !value.is_empty());
            match key {
                b"path" => extended.path = name(value)?,
                b"linkpath" => extended.link = name(value)?,
                b"size" => extended.size = value.map(size).transpose()?,
                _ if key.starts_with(b"GNU.sparse.") => extended.sparse = true,
                _ => {}
            }
        }
        Ok(extended)
    }

    /// Reads a global header, which may only say what doesn't count here: some readers apply it to
    /// every entry, and Go's, which the real builders have, to none.
    pub(super) fn check_global(records: &[u8]) -> Result<(), Fault> {
        let mut left = records;
        while !left.is_empty() {
            let (key, _, rest) = record(left).ok_or(Fault::Pax)?;
            left = rest;
            let counts =
                matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset") || key.starts_with(b"GNU.sparse.");
            if counts {
                return Err(Fault::Global);
            }
        }
        Ok(())
    }
}

/// A record's key and value, and what follows. The value may hold anything: its length ends it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&records[..space])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn name(value: Option<&[u8]>) -> Result<Option<Vec<u8>>, Fault> {
    match value {
        Some(value) if value.contains(&0) => Err(Fault::Nul),
        value => Ok(value.map(<[u8]>::to_vec)),
    }
}

fn size(value: &[u8]) -> Result<u64, Fault> {
    decimal(value).filter(|size| i64::try_from(*size).is_ok()).ok_or(Fault::Number("size"))
}

/// Digits alone: `u64::from_str` would take a sign.
fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}
