//! The cache over a provider that counts how often it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::*;
use crate::{Origin, Questions, UserName};

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

    async fn identify(&self, _: &Credential, _: &Asker) -> Result<Identity, Refusal> {
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
    let inner = Arc::new(Counting { answer, asked: AtomicUsize::new(0), gate: Semaphore::new(Semaphore::MAX_PERMITS) });
    let cached = Cached::new(Arc::clone(&inner) as Arc<dyn IdentityProvider>, lifetimes).unwrap();
    (inner, Arc::new(cached))
}

fn token(text: &str) -> Credential {
    Credential::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_thousand_callers_with_one_token_cause_one_lookup_and_take_one_place() {
    let asker = Questions::new(1, 1).of(None);
    for answer in [Ok("devel"), Err(Refusal::NotMine), Err(Refusal::Rejected("blocked"))] {
        let (inner, cached) = cached(answer.clone(), Lifetimes::default());
        inner.gate.forget_permits(Semaphore::MAX_PERMITS);
        let mut callers = JoinSet::new();
        for _ in 0..1000 {
            let (cached, asker) = (Arc::clone(&cached), asker.clone());
            callers.spawn(async move { cached.identify(&token("u:k"), &asker).await });
        }
        while inner.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        inner.gate.add_permits(1);
        while let Some(proved) = callers.join_next().await {
            let proved = proved.unwrap();
            assert_eq!(proved.is_ok(), answer.is_ok());
            assert!(!matches!(proved, Err(Refusal::Busy)));
        }
        assert_eq!(inner.asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn without_a_place_nobody_is_asked_and_that_is_not_kept() {
    let (inner, cached) = cached(Ok("devel"), Lifetimes::default());
    inner.gate.forget_permits(Semaphore::MAX_PERMITS);
    let questions = Questions::new(2, 1);
    let from = |address: &str| questions.of(Some(Origin { from: address.parse().unwrap(), door: "test" }));
    let (asking, asker) = (Arc::clone(&cached), from("192.0.2.1"));
    let first = tokio::spawn(async move { asking.identify(&token("a:k"), &asker).await });
    while inner.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(cached.identify(&token("b:k"), &from("192.0.2.1")).await, Err(Refusal::Busy)));
    inner.gate.add_permits(3);
    assert!(cached.identify(&token("b:k"), &from("192.0.2.2")).await.is_ok(), "another address has a place");
    assert!(first.await.unwrap().is_ok());
    assert!(cached.identify(&token("c:k"), &from("192.0.2.1")).await.is_ok(), "the place came back");
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_take_the_others_answer_along() {
    let (inner, cached) = cached(Ok("devel"), Lifetimes::default());
    inner.gate.forget_permits(Semaphore::MAX_PERMITS);
    let (first, second) = (Arc::clone(&cached), Arc::clone(&cached));
    let first = tokio::spawn(async move { first.identify(&token("u:k"), &Asker::GATEWAY).await });
    while inner.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn(async move { second.identify(&token("u:k"), &Asker::GATEWAY).await });
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
                let _ = cached.identify(&token("u:k"), &Asker::GATEWAY).await;
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
        assert!(cached.identify(&token("u:k"), &Asker::GATEWAY).await.is_ok());
        assert_eq!(inner.asked.load(Ordering::SeqCst), asked);
        assert!(cached.recall(&token("u:k")).await.is_none());
    }
}

#[tokio::test]
async fn only_what_is_held_is_recalled_and_nobody_is_asked() {
    for answer in [Ok("devel"), Err(Refusal::NotMine)] {
        let (inner, cached) = cached(answer.clone(), Lifetimes::default());
        assert!(cached.recall(&token("u:k")).await.is_none());
        let _ = cached.identify(&token("u:k"), &Asker::GATEWAY).await;
        assert_eq!(cached.recall(&token("u:k")).await.unwrap().is_ok(), answer.is_ok());
        assert!(matches!(cached.recall(&token("Bearer a.b.c")).await, Some(Err(Refusal::NotMine))));
        assert!(cached.identify(&token("Bearer a.b.c"), &Asker::GATEWAY).await.is_err());
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
async fn a_provider_that_is_down_is_asked_anew_once_a_second_and_not_by_every_request() {
    let long = Duration::from_secs(600);
    let down = Err(Refusal::unavailable(std::io::Error::other("down")));
    let (inner, cached) = cached(down, Lifetimes { proved: long, refused: long });
    let users: Vec<_> = (0..50).map(|user| token(&format!("u{user}:k"))).collect();
    for user in &users {
        let devel = Identity::new(UserName::parse("devel").unwrap(), "counting");
        let old = Proved { since: Instant::now().checked_sub(long / 2).unwrap(), ..Proved::now(devel) };
        cached.proved.insert(cached.fingerprint(user), old).await;
    }
    let begun = Instant::now();
    // Nobody has seen yet that it is down.
    assert!(cached.recall(&users[0]).await.unwrap().is_ok());
    let asked_again = async {
        while inner.asked.load(Ordering::SeqCst) < 3 {
            for user in &users {
                tokio::task::yield_now().await;
                assert!(cached.recall(user).await.unwrap().is_ok(), "the old answer stands");
            }
        }
    };
    timeout(Duration::from_secs(10), asked_again).await.unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn unavailability_is_not_kept() {
    let (inner, cached) = cached(Err(Refusal::unavailable(std::io::Error::other("down"))), Lifetimes::default());
    for asked in 1..=3 {
        assert!(matches!(cached.identify(&token("u:k"), &Asker::GATEWAY).await, Err(Refusal::Unavailable(_))));
        assert_eq!(inner.asked.load(Ordering::SeqCst), asked);
    }
}

#[tokio::test]
async fn different_tokens_never_share_an_answer() {
    let (inner, cached) = cached(Ok("devel"), Lifetimes::default());
    for (asked, text) in ["ab:c", "a:bc", "a:b", "ab:C", "a%00b:c"].into_iter().enumerate() {
        cached.identify(&token(text), &Asker::GATEWAY).await.unwrap();
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
        assert!(cached.identify(&token(&format!("u{index}:k")), &Asker::GATEWAY).await.is_err());
    }
    cached.refused.run_pending_tasks().await;
    assert!(cached.refused.entry_count() <= REFUSED_ENTRIES);
    assert!(cached.identify(&token("good:k"), &Asker::GATEWAY).await.is_ok());
}
