//! One pass over a body for every key that may have signed it.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

use super::Signature;
use crate::UserName;

/// Hashes a body as it comes, once for each key.
pub struct Verifier {
    candidates: Vec<(UserName, hmac::Context)>,
    digest: Vec<u8>,
}

/// No key that may sign here has signed these bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the signature isn't that of this body by a key that may sign here: check the key, and that the body is sent as it was signed"
)]
pub struct SignatureMismatch;

impl Verifier {
    pub(super) fn new<'k>(signature: &Signature, keys: impl Iterator<Item = (&'k UserName, &'k [u8])>) -> Self {
        let prefix = signature.time.map(|time| format!("kiln-v1\n{time}\n"));
        let context = |key| {
            let mut context = hmac::Context::with_key(&hmac::Key::new(signature.algorithm.hmac(), key));
            context.update(prefix.as_deref().unwrap_or_default().as_bytes());
            context
        };
        let candidates = keys.map(|(user, key)| (user.clone(), context(key))).collect();
        Self { candidates, digest: signature.digest.clone() }
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, chunk: &[u8]) {
        for (_, context) in &mut self.candidates {
            context.update(chunk);
        }
    }

    /// Whose key has signed the whole body. Every candidate is compared, each in constant time, so
    /// that how long it takes says nothing of which one it was.
    ///
    /// # Errors
    /// When none has.
    pub fn finish(self) -> Result<UserName, SignatureMismatch> {
        let mut signer = None;
        for (user, context) in self.candidates {
            let right = verify_slices_are_equal(context.sign().as_ref(), &self.digest).is_ok();
            signer = signer.or_else(|| right.then_some(user));
        }
        signer.ok_or(SignatureMismatch)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("candidates", &self.candidates.len()).finish_non_exhaustive()
    }
}
