//! Bodies signed with a shared key, as OpenFaaS's builders have them: a header carries an HMAC over
//! the whole body. It names no key, so every candidate is tried, all in one pass over the body.
//!
//! ```text
//! headers ─► Signature ──────┐
//! host, key id ─► Keyring ─► Keys ─► Verifier ◄─ the body, chunk by chunk
//!                                    Verifier::finish ─► UserName ─► Replays (timestamped ones)
//! ```

mod keyring;
mod replays;
mod verifier;

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName};

pub use self::{
    keyring::{InvalidKeyring, KeyError, Keyring, Keys, Signer, UnknownTenant},
    replays::{Replayed, Replays},
    verifier::{SignatureMismatch, Verifier},
};

/// How far a timestamp may be from this clock, either way: what two machines that keep time may
/// differ by, and a large body's way to here.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A signature as sent.
///
/// `X-Kiln-Signature: t=<unix seconds>,sha256=<hex>` is Kiln's own: its HMAC is over
/// `kiln-v1\n<t>\n` and the body. It is good for [`CLOCK_SKEW`] and, by [`Replays`], for one request,
/// while whoever sees one of the others may send that request again for ever.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    header: SignatureHeader,
    algorithm: Algorithm,
    digest: Vec<u8>,
    time: Option<u64>,
}

/// Which header a signature came in; OpenFaaS's builders answer each in a dialect of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureHeader {
    /// `X-Kiln-Signature`, with a timestamp.
    Kiln,
    /// `X-Build-Signature`, of the pro-builder.
    Build,
    /// `X-Cloud-Signature`, of of-builder.
    Cloud,
}

/// What the HMAC is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// HMAC-SHA-1, which of-builder's clients know alone.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
}

/// The header holds no signature that could be right, whatever the body and the keys are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSignature {
    /// There are several.
    #[error("{0} is there more than once; send one signature")]
    Repeated(SignatureHeader),
    /// Neither `sha1=` nor `sha256=` stands before the digest.
    #[error("{0} begins with neither sha1= nor sha256=")]
    Method(SignatureHeader),
    /// The digest isn't one of that algorithm.
    #[error("{0} holds no digest of that length in hexadecimal digits")]
    Digest(SignatureHeader),
    /// The timestamp is missing, or no number of seconds.
    #[error("{0} is t=<seconds since 1970>,sha256=<hexadecimal digits>")]
    Time(SignatureHeader),
    /// The timestamp is too far from this clock.
    #[error("{0} was made too long ago, or by a clock that is wrong: it holds for 300 seconds")]
    Stale(SignatureHeader),
}

// === impl SignatureHeader ===

impl SignatureHeader {
    /// All of them, the one that counts first where a request has several.
    pub const ALL: [Self; 3] = [Self::Kiln, Self::Build, Self::Cloud];

    /// The header's name.
    #[must_use]
    pub fn name(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Kiln => "x-kiln-signature",
            Self::Build => "x-build-signature",
            Self::Cloud => "x-cloud-signature",
        })
    }
}

impl fmt::Display for SignatureHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kiln => "X-Kiln-Signature",
            Self::Build => "X-Build-Signature",
            Self::Cloud => "X-Cloud-Signature",
        })
    }
}

// === impl Algorithm ===

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

// === impl Signature ===

impl Signature {
    /// The signature of a request, if it has any; `now` is what a timestamp is held against.
    ///
    /// # Errors
    /// When it can't be right, so that the body need not be read.
    pub fn from_headers(headers: &HeaderMap, now: SystemTime) -> Result<Option<Self>, InvalidSignature> {
        for header in SignatureHeader::ALL {
            let mut values = headers.get_all(header.name()).iter();
            let Some(value) = values.next() else { continue };
            if values.next().is_some() {
                return Err(InvalidSignature::Repeated(header));
            }
            let value = value.to_str().map_err(|_| InvalidSignature::Method(header))?;
            return Self::parse(header, value.trim(), now).map(Some);
        }
        Ok(None)
    }

    /// Which header it came in.
    #[must_use]
    pub fn header(&self) -> SignatureHeader {
        self.header
    }

    /// What, of one key, no other body has. `None` of a timestamped one, which no other request has, and of SHA-1,
    /// whose collisions can be made.
    #[must_use]
    pub fn of_body(&self) -> Option<[u8; 32]> {
        self.digest.as_slice().try_into().ok().filter(|_| self.time.is_none())
    }

    fn parse(header: SignatureHeader, value: &str, now: SystemTime) -> Result<Self, InvalidSignature> {
        let (time, value) = match header {
            SignatureHeader::Kiln => {
                let (time, rest) = timestamp(value).ok_or(InvalidSignature::Time(header))?;
                let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                if now.abs_diff(time) > CLOCK_SKEW.as_secs() {
                    return Err(InvalidSignature::Stale(header));
                }
                (Some(time), rest)
            }
            SignatureHeader::Build | SignatureHeader::Cloud => (None, value),
        };
        let (method, digits) = value.split_once('=').ok_or(InvalidSignature::Method(header))?;
        let algorithm = Algorithm::of(method)
            .filter(|algorithm| header != SignatureHeader::Kiln || *algorithm == Algorithm::Sha256)
            .ok_or(InvalidSignature::Method(header))?;
        let digest = unhex(digits).filter(|digest| digest.len() == algorithm.length());
        Ok(Self { header, algorithm, digest: digest.ok_or(InvalidSignature::Digest(header))?, time })
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever reads an untimed one in a log could send that body again.
        f.debug_struct("Signature").field("header", &self.header).finish_non_exhaustive()
    }
}

/// `t=<seconds>,` and what follows. Digits alone: other spellings of a number would be other bytes under the HMAC.
fn timestamp(value: &str) -> Option<(u64, &str)> {
    let (time, rest) = value.strip_prefix("t=")?.split_once(',')?;
    let canonical = time.bytes().all(|b| b.is_ascii_digit()) && !time.starts_with('0');
    Some((time.parse().ok().filter(|_| canonical)?, rest))
}

/// Hexadecimal digits of either case, in pairs.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| Some(value(high)? << 4 | value(low)?)).collect()
}

#[cfg(test)]
mod tests;
