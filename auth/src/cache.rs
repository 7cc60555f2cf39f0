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
///
/// An identity that is used in the second half of its lifetime is asked about anew beside the request:
/// whoever calls steadily never waits for the provider, and never stands in line with strangers.
pub struct Cached {
    inner: Arc<dyn IdentityProvider>,
    key: hmac::Key,
    half: Duration,
    proved: Cache<Fingerprint, Proved>,
    refused: Cache<Fingerprint, Refusal>,
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
        Ok(Self { inner, key, half, proved, refused })
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
        if proved.since.elapsed() >= self.half && !proved.asked.swap(true, Ordering::Relaxed) {
            self.ask_anew(fingerprint, credential.clone(), Arc::clone(&proved.asked));
        }
        Some(Ok(proved.identity))
    }

    /// Asks beside the request. While the provider is unavailable the old answer stands to its end.
    fn ask_anew(&self, fingerprint: Fingerprint, credential: Credential, asked: Arc<AtomicBool>) {
        let (inner, proved, refused) = (Arc::clone(&self.inner), self.proved.clone(), self.refused.clone());
        tokio::spawn(async move {
            match inner.identify(&credential).await {
                Ok(identity) => proved.insert(fingerprint, Proved::now(identity)).await,
                Err(Refusal::Unavailable(_)) => asked.store(false, Ordering::Relaxed),
                Err(refusal) => {
                    refused.insert(fingerprint, refusal).await;
                    proved.invalidate(&fingerprint).await;
                }
            }
        });
    }

    /// Asks the provider, unless a question that ended just before was answered with a refusal.
    async fn look_up(&self, fingerprint: Fingerprint, credential: &Credential) -> Result<Proved, Refusal> {
        if let Some(refusal) = self.refused.get(&fingerprint).await {
            return Err(refusal);
        }
        let answer = self.inner.identify(credential).await;
        if let Err(refusal @ (Refusal::NotMine | Refusal::Rejected(_))) = &answer {
            self.refused.insert(fingerprint, refusal.clone()).await;
        }
        answer.map(Proved::now)
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

    async fn identify(&self, credential: &Credential) -> Result<Identity, Refusal> {
        // Before anything is kept: a shape that the provider doesn't know needs no entry.
        if let Some(answer) = self.inner.recall(credential).await {
            return answer;
        }
        let fingerprint = self.fingerprint(credential);
        if let Some(answer) = self.held(fingerprint, credential).await {
            return answer;
        }
        let flight = self.look_up(fingerprint, credential);
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

    use super::*;
    use crate::UserName;

    /// Answers one way and counts how often; waits for a permit before each answer.
    struct Counting {
        answer: Result<&'static str, Refusal>,
        asked: AtomicUsize,
        gate: Semaphore,
    }

    #[async_trait]
    impl IdentityProvider for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        async fn identify(&self, _: &Credential) -> Result<Identity, Refusal> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            self.answer.clone().map(|user| {
                let identity = Identity::new(UserName::parse(user).unwrap(), "counting");
                if user == "fleeting" { identity.expiring(SystemTime::now()) } else { identity }
            })
        }

        async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
            matches!(credential, Credential::Jwt(_)).then_some(Err(Refusal::NotMine))
        }
    }

    fn cached(answer: Result<&'static str, Refusal>, lifetimes: Lifetimes) -> (Arc<Counting>, Arc<Cached>) {
        let inner =
            Arc::new(Counting { answer, asked: AtomicUsize::new(0), gate: Semaphore::new(Semaphore::MAX_PERMITS) });
        let cached = Cached::new(Arc::clone(&inner) as Arc<dyn IdentityProvider>, lifetimes).unwrap();
        (inner, Arc::new(cached))
    }

    fn token(text: &str) -> Credential {
        Credential::parse(text.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn a_thousand_callers_with_one_token_cause_one_lookup() {
        for answer in [Ok("devel"), Err(Refusal::NotMine), Err(Refusal::Rejected("blocked"))] {
            let (inner, cached) = cached(answer.clone(), Lifetimes::default());
            inner.gate.forget_permits(Semaphore::MAX_PERMITS);
            let mut callers = JoinSet::new();
            for _ in 0..1000 {
                let cached = Arc::clone(&cached);
                callers.spawn(async move { cached.identify(&token("u:k")).await.is_ok() });
            }
            while inner.asked.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            inner.gate.add_permits(1);
            while let Some(proved) = callers.join_next().await {
                assert_eq!(proved.unwrap(), answer.is_ok());
            }
            assert_eq!(inner.asked.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn a_caller_who_leaves_does_not_take_the_others_answer_along() {
        let (inner, cached) = cached(Ok("devel"), Lifetimes::default());
        inner.gate.forget_permits(Semaphore::MAX_PERMITS);
        let (first, second) = (Arc::clone(&cached), Arc::clone(&cached));
        let first = tokio::spawn(async move { first.identify(&token("u:k")).await });
        while inner.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn(async move { second.identify(&token("u:k")).await });
        tokio::task::yield_now().await;
        first.abort();
        inner.gate.add_permits(2);
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn answers_expire() {
        let short = Lifetimes { proved: Duration::from_millis(20), refused: Duration::from_millis(20) };
        for answer in [Ok("devel"), Err(Refusal::NotMine)] {
            let (inner, cached) = cached(answer, short);
            let asked_again = async {
                while inner.asked.load(Ordering::SeqCst) < 2 {
                    let _ = cached.identify(&token("u:k")).await;
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), asked_again).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_beyond_its_credential() {
        let (inner, cached) = cached(Ok("fleeting"), Lifetimes::default());
        for asked in 1..=3 {
            assert!(cached.identify(&token("u:k")).await.is_ok());
            assert_eq!(inner.asked.load(Ordering::SeqCst), asked);
            assert!(cached.recall(&token("u:k")).await.is_none());
        }
    }

    #[tokio::test]
    async fn only_what_is_held_is_recalled_and_nobody_is_asked() {
        for answer in [Ok("devel"), Err(Refusal::NotMine)] {
            let (inner, cached) = cached(answer.clone(), Lifetimes::default());
            assert!(cached.recall(&token("u:k")).await.is_none());
            let _ = cached.identify(&token("u:k")).await;
            assert_eq!(cached.recall(&token("u:k")).await.unwrap().is_ok(), answer.is_ok());
            assert!(matches!(cached.recall(&token("Bearer a.b.c")).await, Some(Err(Refusal::NotMine))));
            assert!(cached.identify(&token("Bearer a.b.c")).await.is_err());
            assert_eq!(inner.asked.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn who_calls_steadily_is_asked_about_beside_the_request_and_once_at_a_time() {
        let long = Duration::from_secs(600);
        for answer in [Ok("devel"), Err(Refusal::NotMine)] {
            let lifetimes = Lifetimes { proved: long, refused: long };
            let (inner, cached) = cached(answer.clone(), lifetimes);
            inner.gate.forget_permits(Semaphore::MAX_PERMITS);
            let devel = Identity::new(UserName::parse("devel").unwrap(), "counting");
            let old = Proved { since: Instant::now().checked_sub(long / 2).unwrap(), ..Proved::now(devel) };
            cached.proved.insert(cached.fingerprint(&token("u:k")), old).await;
            for _ in 0..100 {
                assert!(cached.recall(&token("u:k")).await.unwrap().is_ok(), "nobody waits");
                tokio::task::yield_now().await;
            }
            assert_eq!(inner.asked.load(Ordering::SeqCst), 1);
            inner.gate.add_permits(1);
            let seen = async {
                while cached.recall(&token("u:k")).await.unwrap().is_ok() != answer.is_ok() {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(10), seen).await.unwrap();
            assert_eq!(inner.asked.load(Ordering::SeqCst), 1);
        }
    }

    #[tokio::test]
    async fn unavailability_is_not_kept() {
        let (inner, cached) = cached(Err(Refusal::unavailable(std::io::Error::other("down"))), Lifetimes::default());
        for asked in 1..=3 {
            assert!(matches!(cached.identify(&token("u:k")).await, Err(Refusal::Unavailable(_))));
            assert_eq!(inner.asked.load(Ordering::SeqCst), asked);
        }
    }

    #[tokio::test]
    async fn different_tokens_never_share_an_answer() {
        let (inner, cached) = cached(Ok("devel"), Lifetimes::default());
        for (asked, text) in ["ab:c", "a:bc", "a:b", "ab:C", "a%00b:c"].into_iter().enumerate() {
            cached.identify(&token(text)).await.unwrap();
            assert_eq!(inner.asked.load(Ordering::SeqCst), asked + 1, "{text}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_bad_tokens_neither_grows_memory_nor_pushes_good_ones_out() {
        let (_, cached) = cached(Err(Refusal::NotMine), Lifetimes::default());
        let good = cached.fingerprint(&token("good:k"));
        let devel = Identity::new(UserName::parse("devel").unwrap(), "counting");
        cached.proved.insert(good, Proved::now(devel)).await;
        for index in 0..3 * REFUSED_ENTRIES {
            assert!(cached.identify(&token(&format!("u{index}:k"))).await.is_err());
        }
        cached.refused.run_pending_tasks().await;
        assert!(cached.refused.entry_count() <= REFUSED_ENTRIES);
        assert!(cached.identify(&token("good:k")).await.is_ok());
    }
}
