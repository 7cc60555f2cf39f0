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
use crate::UserName;

/// Lets `devel:key` in, and has one token for each way to refuse.
struct Table;

#[async_trait]
impl IdentityProvider for Table {
    fn name(&self) -> &str {
        "table"
    }

    async fn identify(&self, credential: &Credential) -> Result<Identity, Refusal> {
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

    async fn recall(&self, _: &Credential) -> Option<Result<Identity, Refusal>> {
        None
    }
}

/// Sends a request with these `Authorization` headers; what the inner service sees comes back.
async fn send(authorizations: &[&str]) -> Result<Request<()>, BoxError> {
    let mut request = Request::new(());
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
    for value in authorizations {
        request.headers_mut().append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    request.extensions_mut().insert(RemoteAddress([192, 0, 2, 7].into()));
    let seen = service_fn(async |request: Request<()>| Ok::<_, BoxError>(request));
    Authenticate::layer(Arc::new(Table)).layer(seen).oneshot(request).await
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
    let error = Authenticate::layer(Arc::new(Table)).layer(failing).oneshot(request).await.unwrap_err();
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
        ("Bearer canary", "unusable authorization header"),
        ("nobody:canary", "no provider knows this credential"),
        ("blocked:canary", "the subject is blocked"),
        ("down:canary", "connection refused"),
    ] {
        let public = refused(&[authorization]).await.to_string();
        assert!(!public.contains("blocked") && !public.contains("refused"), "{public}");
        let line = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
        for part in ["kiln::audit", reason, "from=192.0.2.7", "outcome=\"refused\"", "who=\"unknown\""] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("canary") && line.lines().count() == 1, "{line}");
    }
}
