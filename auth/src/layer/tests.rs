//! The layer over a table of answers.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use http::{HeaderValue, header::ACCEPT};
use tower::{ServiceExt, service_fn};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{Asker, Cached, Lifetimes, Rate, UserName};

/// Lets `devel:key` in, and has one token for each way to refuse.
struct Table;

#[async_trait]
impl IdentityProvider for Table {
    fn name(&self) -> &str {
        "table"
    }

    async fn identify(&self, credential: &Credential, _: &Asker) -> Result<Identity, Refusal> {
        let Credential::Wsk(token) = credential else { return Err(Refusal::NotMine) };
        match token.uuid() {
            "devel" => Ok(Identity::new(UserName::parse("devel").unwrap(), "table")),
            "blocked" => Err(Refusal::Rejected("the subject is blocked")),
            "down" => {
                let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
                Err(Refusal::unavailable(io::Error::other(refused)))
            }
            _ => Err(Refusal::NotMine),
        }
    }

    /// Remembers `known:key`, and that `forgotten:key` is nobody's.
    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        let Credential::Wsk(token) = credential else { return Some(Err(Refusal::NotMine)) };
        match token.uuid() {
            "known" => Some(Ok(Identity::new(UserName::parse("known").unwrap(), "table"))),
            "forgotten" => Some(Err(Refusal::NotMine)),
            _ => None,
        }
    }
}

fn gate(failures: u32) -> Gate {
    let attempts = Arc::new(Attempts::new(Rate::of(1, failures)));
    Gate { provider: Arc::new(Table), attempts, lookups: Questions::new(1, 1) }
}

fn origin(from: &str) -> Origin {
    Origin { from: from.parse().unwrap(), door: "test" }
}

/// Sends a request with these `Authorization` headers; what the inner service sees comes back.
async fn send(authorizations: &[&str]) -> Result<Request<()>, BoxError> {
    send_through(&gate(100), authorizations, "192.0.2.7").await
}

async fn send_through(gate: &Gate, authorizations: &[&str], from: &str) -> Result<Request<()>, BoxError> {
    let mut request = Request::new(());
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
    for value in authorizations {
        request.headers_mut().append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    request.extensions_mut().insert(origin(from));
    let seen = service_fn(async |request: Request<()>| Ok::<_, BoxError>(request));
    let Gate { provider, attempts, lookups } = gate.clone();
    Authenticate::layer(provider, attempts, lookups).layer(seen).oneshot(request).await
}

async fn refused(authorizations: &[&str]) -> AuthError {
    send(authorizations).await.unwrap_err().downcast_ref::<AuthError>().unwrap().clone()
}

#[tokio::test]
async fn a_proved_request_carries_the_identity_and_no_credential() {
    let request = send(&["devel:key"]).await.unwrap();
    assert_eq!(request.extensions().get::<Identity>().unwrap().user().as_str(), "devel");
    assert!(!request.headers().contains_key(AUTHORIZATION));
    assert!(request.headers().contains_key(ACCEPT));
}

#[tokio::test]
async fn every_refusal_is_a_typed_error() {
    assert!(matches!(refused(&[]).await, AuthError::Missing));
    assert!(matches!(refused(&[""]).await, AuthError::Unusable));
    assert!(matches!(refused(&["Bearer x"]).await, AuthError::Unusable));
    assert!(matches!(refused(&["devel:key", "devel:key"]).await, AuthError::Unusable));
    assert!(matches!(refused(&["nobody:key"]).await, AuthError::Rejected));
    assert!(matches!(refused(&["blocked:key"]).await, AuthError::Rejected));
    assert!(matches!(refused(&["down:key"]).await, AuthError::Unavailable(_)));
}

#[tokio::test]
async fn an_error_of_the_inner_service_passes_through() {
    let failing = service_fn(async |_: Request<()>| Err::<(), _>(io::Error::other("inner")));
    let mut request = Request::new(());
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("devel:key"));
    let Gate { provider, attempts, lookups } = gate(1);
    let layer = Authenticate::layer(provider, attempts, lookups);
    let error = layer.layer(failing).oneshot(request).await.unwrap_err();
    assert!(error.is::<io::Error>());
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_says_where_from_and_why_and_the_caller_less() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for (authorization, reason) in [
        ("Digest canary", "unusable authorization header"),
        ("nobody:canary", "no provider knows this credential"),
        ("blocked:canary", "the subject is blocked"),
        ("down:canary", "connection refused"),
    ] {
        let public = refused(&[authorization]).await.to_string();
        assert!(!public.contains("blocked") && !public.contains("refused"), "{public}");
        let line = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
        for part in
            ["kiln::audit", reason, "from=\"192.0.2.7\"", "door=\"test\"", "outcome=\"refused\"", "who=\"unknown\""]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("canary") && line.lines().count() == 1, "{line}");
    }
}

#[tokio::test]
async fn an_address_that_failed_too_often_is_refused_and_its_known_callers_are_not() {
    let gate = gate(3);
    let kind = |answer: Result<Request<()>, BoxError>| match answer {
        Ok(_) => "in",
        Err(error) => match error.downcast_ref::<AuthError>().unwrap() {
            AuthError::Missing => "missing",
            AuthError::TooManyFailures(_) => "too many",
            AuthError::Unavailable(_) => "unavailable",
            _ => "refused",
        },
    };
    for (authorization, from, answer) in [
        (&["Digest x"][..], "192.0.2.7", "refused"),
        // Not a failure.
        (&[], "192.0.2.7", "missing"),
        // One, although it may be nobody's fault: questions without an answer cost most.
        (&["down:key"], "192.0.2.7", "unavailable"),
        (&["forgotten:key"], "192.0.2.7", "refused"),
        // Nobody is asked any more: not about a bad token, nor about one that would be good.
        (&["nobody:key"], "192.0.2.7", "too many"),
        (&["Digest x"], "192.0.2.7", "too many"),
        (&["devel:key"], "192.0.2.7", "too many"),
        (&[], "192.0.2.7", "missing"),
        (&["known:key"], "192.0.2.7", "in"),
        (&["devel:key"], "192.0.2.8", "in"),
        (&["nobody:key"], "192.0.2.8", "refused"),
    ] {
        assert_eq!(kind(send_through(&gate, authorization, from).await), answer, "{authorization:?} from {from}");
    }
}

#[tokio::test]
async fn without_a_place_for_a_lookup_only_remembered_callers_are_let_in() {
    let provider = Arc::new(Cached::new(Arc::new(Table), Lifetimes::default()).unwrap());
    let gate = Gate { provider, lookups: Questions::new(0, 1), ..gate(100) };
    assert!(send_through(&gate, &["known:key"], "192.0.2.7").await.is_ok());
    let error = send_through(&gate, &["devel:key"], "192.0.2.7").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(AuthError::Busy)), "{error}");
}

#[tokio::test]
async fn a_flood_of_failures_takes_few_lines() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let gate = gate(3);
    for _ in 0..1000 {
        let _ = send_through(&gate, &["nobody:key"], "192.0.2.7").await;
    }
    let log = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
    assert_eq!(log.lines().count(), 4, "{log}");
    assert!(log.lines().last().unwrap().contains("aren't logged for a minute"), "{log}");
}

#[tokio::test]
async fn a_flood_from_everywhere_takes_few_lines_too() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let gate = gate(3);
    for address in 0..3000_u32 {
        let from = std::net::Ipv4Addr::from_bits(address).to_string();
        let _ = send_through(&gate, &["nobody:key"], &from).await;
    }
    let log = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
    // Some more may come while the test runs, ten in each second.
    let count = log.lines().count();
    assert!((1200..2000).contains(&count), "{count} lines");
    assert_eq!(log.lines().filter(|line| line.contains("from everywhere")).count(), 1);
}
