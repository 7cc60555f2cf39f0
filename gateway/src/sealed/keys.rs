//! The installation's key file: a key a line, in base64. The first is the one that callers seal for;
//! the others are those it took the place of, until nobody seals for them any more.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use crypto_box::SecretKey;
use secrecy::zeroize::Zeroizing;

use super::{OpenError, PublicKeyInfo, Secrets, envelope::Envelope, key::SealingKey};

/// The longest file that is read, in bytes: eight keys take 360.
const LONGEST: u64 = 4096;
/// The most keys: each may have to be tried for an envelope.
const MOST: usize = 8;

/// The keys of a file, at least one. Gone from memory with it.
#[derive(Debug)]
pub struct SealingKeys(Vec<SealingKey>);

/// The file can't be used. Nothing of its content is repeated.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It can't be read.
    #[error("it can't be read")]
    Unreadable(#[from] io::Error),
    /// It has a line that is no key, no line, or too many.
    #[error("it must have one to eight lines, each the base64 of 32 bytes, as kiln openfaas keygen writes them")]
    Invalid,
}

impl SealingKeys {
    /// Reads the file.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let mut text = Zeroizing::new(Vec::with_capacity(512));
        File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
        Self::parse(&text)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`KeyFileError::Invalid`].
    pub fn parse(text: &[u8]) -> Result<Self, KeyFileError> {
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let keys: Option<Vec<SealingKey>> = lines.map(SealingKey::parse).collect();
        let fits = |keys: &Vec<SealingKey>| (1..=MOST).contains(&keys.len()) && text.len() as u64 <= LONGEST;
        keys.filter(fits).map(Self).ok_or(KeyFileError::Invalid)
    }

    /// What is published: the first key's public half.
    #[must_use]
    pub fn public(&self) -> PublicKeyInfo {
        // There is at least one.
        self.0.first().map(SealingKey::public).unwrap_or_default()
    }

    /// The first key, as a line of a file.
    #[must_use]
    pub fn current(&self) -> Zeroizing<String> {
        self.0.first().map(SealingKey::line).unwrap_or_default()
    }

    /// Opens an envelope, with the key that it names, or, as the real builders do, with whichever fits.
    ///
    /// # Errors
    /// When it isn't one, or any of its boxes can't be opened.
    pub fn open(&self, envelope: &[u8]) -> Result<Secrets, OpenError> {
        let envelope = Envelope::parse(envelope)?;
        let named: Vec<_> = self.0.iter().filter(|key| key.public().key_id == envelope.key_id).collect();
        let candidates = if named.is_empty() { self.0.iter().collect() } else { named };
        let mut closed = None;
        for key in candidates {
            match key.open(&envelope) {
                Ok(secrets) => return Ok(secrets),
                Err(name) => closed = closed.or(Some(name)),
            }
        }
        let ours = self.public().key_id;
        Err(OpenError::Sealed { name: closed.unwrap_or_default(), key_id: envelope.key_id, ours })
    }
}

/// A new key, as a line of a file.
#[must_use]
pub fn generate() -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).ok()?;
    Some(SealingKey::from(SecretKey::from(*bytes)).line())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::{super::tests::*, *};

    #[test]
    fn old_and_new_keys_open_side_by_side_and_the_first_is_published() {
        let new = generate().unwrap();
        let text = format!("{}\n\n{}", *new, std::str::from_utf8(PRIVATE).unwrap());
        let keys = SealingKeys::parse(text.as_bytes()).unwrap();
        assert_ne!(keys.public().key_id, "yJVNaR+d");
        for envelope in [ENVELOPE.to_owned(), ENVELOPE.replace("yJVNaR+d", "unknown!"), ENVELOPE.replace("key_id", "x")]
        {
            let secrets = keys.open(envelope.as_bytes()).unwrap();
            assert_eq!(secrets["pip_token"].expose_secret(), b"s3cr3t");
        }
        let stranger = SealingKeys::parse(new.as_bytes()).unwrap();
        let closed = stranger.open(ENVELOPE.as_bytes()).unwrap_err();
        let ours = stranger.public().key_id;
        assert_eq!(closed, OpenError::Sealed { name: "ca.crt".to_owned(), key_id: "yJVNaR+d".to_owned(), ours });
    }

    #[test]
    fn a_file_without_keys_is_none() {
        let many = format!("{}\n", generate().unwrap().as_str()).repeat(9);
        let long = format!("{}{}", " ".repeat(4096), std::str::from_utf8(PRIVATE).unwrap());
        for text in ["", "\n \n", "short", "AAAA", "!", "yWEI5Uge5Xcp1LNgowicpXbVPg21CHq4cd9rCLxHajs=\nx", &many, &long]
        {
            assert!(SealingKeys::parse(text.as_bytes()).is_err(), "{text:.60?}");
        }
        assert!(matches!(SealingKeys::read(Path::new("/nowhere")), Err(KeyFileError::Unreadable(_))));
    }
}
