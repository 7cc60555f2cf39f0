//! Keeps what a queued build needs of its owner's secrets unreadable in the ledger and its backups.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};

/// An AES-256-GCM key that lies beside the ledger in a file of its own, readable by Kiln alone.
#[derive(Clone)]
pub struct Seal(Arc<RandomizedNonceKey>);

/// The sealed bytes are of another key, or damaged.
#[derive(Debug, thiserror::Error)]
#[error("the build's sealed secrets can't be opened with this installation's key")]
pub struct Unsealable(());

impl Seal {
    /// Reads the key in `folder`, or makes one.
    ///
    /// # Errors
    /// When the file can't be read or written, or holds no key.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("seal.key");
        let key = match fs::read(&path) {
            Ok(key) => key,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                rand::fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                io::Write::write_all(&mut file, &key)?;
                file.sync_all()?;
                fs::File::open(folder)?.sync_all()?;
                key.to_vec()
            }
            Err(e) => return Err(e),
        };
        let key = RandomizedNonceKey::new(&AES_256_GCM, &key)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no key", path.display())))?;
        Ok(Self(Arc::new(key)))
    }

    /// Seals `plain` for one build: it opens for that `context` only.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(context), &mut bytes);
        let nonce = nonce.map_err(|_| io::Error::other("sealing failed"))?;
        bytes.extend_from_slice(nonce.as_ref());
        Ok(bytes)
    }

    /// Opens what [`Seal::seal`] made.
    ///
    /// # Errors
    /// When it was made with another key or for another context.
    pub fn open_sealed(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let at = sealed.len().checked_sub(NONCE_LEN).ok_or(Unsealable(()))?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed[at..]).map_err(|_| Unsealable(()))?;
        let mut bytes = sealed[..at].to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(context), &mut bytes).map_err(|_| Unsealable(()))?;
        Ok(plain.to_vec())
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_for_their_build_and_after_a_restart_only() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = Seal::open(folder.path()).unwrap().seal(b"build 1", b"user:p:ss").unwrap();
        assert!(!sealed.windows(4).any(|w| w == b"p:ss"));
        let again = Seal::open(folder.path()).unwrap();
        assert_eq!(again.open_sealed(b"build 1", &sealed).unwrap(), b"user:p:ss");
        assert!(again.open_sealed(b"build 2", &sealed).is_err());
        assert!(again.open_sealed(b"build 1", b"short").is_err());
    }
}
