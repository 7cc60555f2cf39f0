//! Remembers for seconds what a provider said, so that a database isn't asked on every request.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_lc_rs::{error::Unspecified, hmac, rand};
use moka::future::Cache;
use secrecy::{ExposeSecret, zeroize::Zeroizing};

use crate::{Credential, Identity, IdentityProvider, Refusal};

/// How much memory proved identities may hold: some thousand users with their environments.
const PROVED_BYTES: u64 = 8 * 1024 * 1024;

/// How many refused credentials are remembered, at some 300 bytes each. They have a cache of their
/// own, so that a flood of bad tokens can't push good ones out.
const REFUSED_ENTRIES: u64 = 8 * 1024;

/// A provider whose answers are kept for a short while.
///
/// Callers that show the same credential at the same time share one question. That a provider was
/// unavailable is not kept.
pub struct Cached {
    inner: Arc<dyn IdentityProvider>,
    key: hmac::Key,
    proved: Cache<Fingerprint, Identity>,
    refused: Cache<Fingerprint, Refusal>,
}

/// How long answers are kept.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// For a proved identity. A revoked one is let in for this long and one lookup more.
    pub proved: Duration,
    /// For a refused credential. A new user waits this long if they tried too early.
    pub refused: Duration,
}

/// A credential's keyed hash. The key lives as long as the process, so that what a core dump
/// shows of the cache can't be compared with anything.
type Fingerprint = [u8; 32];

// === impl Lifetimes ===

impl Default for Lifetimes {
    /// 20 s, which with a lookup's deadline of 5 s stays below the 30 s within which a revocation
    /// must be seen; and 5 s.
    fn default() -> Self {
        Self { proved: Duration::from_secs(20), refused: Duration::from_secs(5) }
    }
}

// === impl Cached ===

impl Cached {
    /// Keeps what `inner` answers.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(inner: Arc<dyn IdentityProvider>, lifetimes: Lifetimes) -> Result<Self, Unspecified> {
        let proved = Cache::builder()
            .max_capacity(PROVED_BYTES)
            .weigher(|_, identity: &Identity| identity.weight())
            .time_to_live(lifetimes.proved)
            .build();
        let refused = Cache::builder().max_capacity(REFUSED_ENTRIES).time_to_live(lifetimes.refused).build();
        let mut secret = Zeroizing::new([0; 32]);
        rand::fill(secret.as_mut())?;
        Ok(Self { inner, key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()), proved, refused })
    }

    fn fingerprint(&self, credential: &Credential) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        match credential {
            Credential::Wsk(token) => {
                // Kind and length first: no two credentials may give the same bytes.
                context.update(b"wsk");
                context.update(&token.uuid().len().to_be_bytes());
                context.update(token.uuid().as_bytes());
                context.update(token.key().expose_secret().as_bytes());
            }
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }

    /// Asks the provider, unless a question that ended just before was answered with a refusal.
    async fn look_up(&self, fingerprint: Fingerprint, credential: &Credential) -> Result<Identity, Refusal> {
        if let Some(refusal) = self.refused.get(&fingerprint).await {
            return Err(refusal);
        }
        let answer = self.inner.identify(credential).await;
        if let Err(refusal @ (Refusal::NotMine | Refusal::Rejected(_))) = &answer {
            self.refused.insert(fingerprint, refusal.clone()).await;
        }
        answer
    }
}

#[async_trait]
impl IdentityProvider for Cached {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn identify(&self, credential: &Credential) -> Result<Identity, Refusal> {
        let fingerprint = self.fingerprint(credential);
        if let Some(identity) = self.proved.get(&fingerprint).await {
            return Ok(identity);
        }
        if let Some(refusal) = self.refused.get(&fingerprint).await {
            return Err(refusal);
        }
        let flight = self.look_up(fingerprint, credential);
        self.proved.try_get_with(fingerprint, flight).await.map_err(|refusal| Refusal::clone(&refusal))
    }
}
