//! One key: its public half, and what it opens.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_box::{SalsaBox, SecretKey, aead::Aead as _};
use secrecy::{SecretSlice, zeroize::Zeroizing};

use super::{ALGORITHM, PublicKeyInfo, Secrets, envelope::Envelope};

/// How much of the base64 of a public key is its id.
const KEY_ID: usize = 8;

/// A private key; it erases itself when it goes.
pub(super) struct SealingKey(SecretKey);

impl SealingKey {
    /// Reads the base64 of a key.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        SecretKey::from_slice(&bytes).ok().map(Self)
    }

    /// What [`SealingKey::parse`] reads.
    pub(super) fn line(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*Zeroizing::new(self.0.to_bytes())))
    }

    /// Its public half.
    pub(super) fn public(&self) -> PublicKeyInfo {
        let public_key = STANDARD.encode(self.0.public_key().as_bytes());
        PublicKeyInfo { key_id: public_key.chars().take(KEY_ID).collect(), algorithm: ALGORITHM, public_key }
    }

    /// What an envelope holds, or the name of a box that this key doesn't open.
    pub(super) fn open(&self, envelope: &Envelope) -> Result<Secrets, String> {
        let opener = SalsaBox::new(&envelope.sender, &self.0);
        let open = |sealed: &super::envelope::Sealed| {
            let opened = opener.decrypt((&sealed.nonce).into(), sealed.text.as_slice());
            let value = opened.map_err(|_| sealed.name.clone())?;
            Ok((sealed.name.clone(), SecretSlice::from(value)))
        };
        envelope.secrets.iter().map(open).collect()
    }
}

impl From<SecretKey> for SealingKey {
    fn from(key: SecretKey) -> Self {
        Self(key)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SealingKey").field(&self.public().key_id).finish()
    }
}
