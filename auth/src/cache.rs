//! Remembers for seconds what a provider said, so that a database isn't asked on every request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use aws_lc_rs::{error::Unspecified, hmac, rand};
use moka::{Expiry, future::Cache};
use secrecy::{ExposeSecret, zeroize::Zeroizing};

use crate::{
    Asker, Credential, Identity, IdentityProvider, Refusal,
    rate::{Bucket, Rate},
};

/// How much memory proved identities may hold: some thousand users with their environments.
const PROVED_BYTES: u64 = 8 * 1024 * 1024;

/// How many refused credentials are remembered, at some 300 bytes each. They have a cache of their
/// own, so that a flood of bad tokens can't push good ones out.
const REFUSED_ENTRIES: u64 = 8 * 1024;

/// How often a provider that is down is asked about those whom it proved before.
const WHILE_DOWN: Rate = Rate::of(60, 1);

/// A provider whose answers are kept for a short while.
///
/// Callers that show the same credential at the same time share one question, and the place that it
/// takes among those under way. That a provider was unavailable is not kept.
///
/// An identity that is used in the second half of its lifetime is asked about anew beside the request:
/// whoever calls steadily never waits for the provider, and never stands in line with strangers. While
/// the provider is down such a question is a trial, of which there is one a second for all of them.
pub struct Cached {
    inner: Arc<dyn IdentityProvider>,
    key: hmac::Key,
    half: Duration,
    health: Arc<Health>,
    proved: Cache<Fingerprint, Proved>,
    refused: Cache<Fingerprint, Refusal>,
}

/// Whether the provider answered the last time.
struct Health {
    down: AtomicBool,
    trials: Bucket,
}

/// A proved identity, since when, and whether it is being asked about anew.
#[derive(Clone)]
struct Proved {
    identity: Identity,
    since: Instant,
    asked: Arc<AtomicBool>,
}

/// How long answers are kept.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// For a proved identity, unless its credential expires earlier. A revoked one is let in for
    /// this long and one lookup more.
    pub proved: Duration,
    /// For a refused credential. A new user waits this long if they tried too early.
    pub refused: Duration,
}

/// A credential's keyed hash. The key lives as long as the process, so that what a core dump
/// shows of the cache can't be compared with anything.
type Fingerprint = [u8; 32];

/// Ends an entry with its credential, where that ends before the cache would forget it.
struct WithCredential;

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
            .weigher(|_, proved: &Proved| proved.identity.weight())
            .time_to_live(lifetimes.proved)
            .expire_after(WithCredential)
            .build();
        let refused = Cache::builder().max_capacity(REFUSED_ENTRIES).time_to_live(lifetimes.refused).build();
        let mut secret = Zeroizing::new([0; 32]);
        rand::fill(secret.as_mut())?;
        let (key, half) = (hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()), lifetimes.proved / 2);
        Ok(Self { inner, key, half, health: Arc::default(), proved, refused })
    }

    fn fingerprint(&self, credential: &Credential) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        match credential {
            // Kind and length first: no two credentials may give the same bytes.
            Credential::Jwt(token) => {
                context.update(b"jwt");
                context.update(token.reveal().as_bytes());
            }
            Credential::Wsk(token) => {
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

    async fn held(&self, fingerprint: Fingerprint, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        let Some(proved) = self.proved.get(&fingerprint).await else {
            return self.refused.get(&fingerprint).await.map(Err);
        };
        let due = proved.since.elapsed() >= self.half && !proved.asked.load(Ordering::Relaxed);
        if due && self.health.may_ask() && !proved.asked.swap(true, Ordering::Relaxed) {
            self.ask_anew(fingerprint, credential.clone(), Arc::clone(&proved.asked));
        }
        Some(Ok(proved.identity))
    }

    /// Asks beside the request. While the provider is unavailable the old answer stands to its end.
    fn ask_anew(&self, fingerprint: Fingerprint, credential: Credential, asked: Arc<AtomicBool>) {
        let (inner, health) = (Arc::clone(&self.inner), Arc::clone(&self.health));
        let (proved, refused) = (self.proved.clone(), self.refused.clone());
        tokio::spawn(async move {
            let answer = inner.identify(&credential, &Asker::GATEWAY).await;
            health.note(&answer);
            match answer {
                Ok(identity) => proved.insert(fingerprint, Proved::now(identity)).await,
                Err(Refusal::Unavailable(_) | Refusal::Busy) => asked.store(false, Ordering::Relaxed),
                Err(refusal) => {
                    refused.insert(fingerprint, refusal).await;
                    proved.invalidate(&fingerprint).await;
                }
            }
        });
    }

    /// Asks the provider, unless a question that ended just before was answered with a refusal.
    async fn look_up(
        &self,
        fingerprint: Fingerprint,
        credential: &Credential,
        asker: &Asker,
    ) -> Result<Proved, Refusal> {
        if let Some(refusal) = self.refused.get(&fingerprint).await {
            return Err(refusal);
        }
        // Here and not above: whoever waits for another caller's question costs the provider nothing.
        let _question = asker.ask(self.name()).map_err(|_| Refusal::Busy)?;
        let answer = self.inner.identify(credential, asker).await;
        self.health.note(&answer);
        if let Err(refusal @ (Refusal::NotMine | Refusal::Rejected(_))) = &answer {
            self.refused.insert(fingerprint, refusal.clone()).await;
        }
        answer.map(Proved::now)
    }
}

impl Health {
    fn may_ask(&self) -> bool {
        !self.down.load(Ordering::Relaxed) || self.trials.take().is_ok()
    }

    fn note(&self, answer: &Result<Identity, Refusal>) {
        let down = matches!(answer, Err(Refusal::Unavailable(_)));
        if down {
            // The pause begins now, not with the next trial.
            let _ = self.trials.take();
        }
        self.down.store(down, Ordering::Relaxed);
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { down: AtomicBool::new(false), trials: Bucket::new("trials", WHILE_DOWN) }
    }
}

impl Proved {
    fn now(identity: Identity) -> Self {
        Self { identity, since: Instant::now(), asked: Arc::default() }
    }
}

#[async_trait]
impl IdentityProvider for Cached {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn identify(&self, credential: &Credential, asker: &Asker) -> Result<Identity, Refusal> {
        // Before anything is kept: a shape that the provider doesn't know needs no entry.
        if let Some(answer) = self.inner.recall(credential).await {
            return answer;
        }
        let fingerprint = self.fingerprint(credential);
        if let Some(answer) = self.held(fingerprint, credential).await {
            return answer;
        }
        let flight = self.look_up(fingerprint, credential, asker);
        let answer = self.proved.try_get_with(fingerprint, flight).await;
        answer.map(|proved| proved.identity).map_err(|refusal| Refusal::clone(&refusal))
    }

    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        match self.inner.recall(credential).await {
            None => self.held(self.fingerprint(credential), credential).await,
            known => known,
        }
    }
}

impl WithCredential {
    fn rest(proved: &Proved) -> Option<Duration> {
        // An instant that has passed already is as good as now: the next caller asks again.
        proved.identity.expires().map(|at| at.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

impl Expiry<Fingerprint, Proved> for WithCredential {
    fn expire_after_create(&self, _: &Fingerprint, proved: &Proved, _: Instant) -> Option<Duration> {
        Self::rest(proved)
    }

    fn expire_after_update(
        &self,
        _: &Fingerprint,
        proved: &Proved,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Self::rest(proved)
    }
}

#[cfg(test)]
mod tests;
