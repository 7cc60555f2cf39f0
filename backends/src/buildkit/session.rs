//! The session of an attempt: a gRPC server on a byte stream that the daemon calls back over.
//!
//! Everything it runs is owned: closing it ends and awaits the tasks, dropping it aborts them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bollard_buildkit_proto::{
    health::{
        HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
        health_check_response::ServingStatus,
        health_server::{Health, HealthServer},
    },
    moby::{
        buildkit::secrets::v1::{
            GetSecretRequest, GetSecretResponse,
            secrets_server::{Secrets, SecretsServer},
        },
        filesync::{packet::file_sync_server::FileSyncServer, v1::auth_server::AuthServer},
    },
};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use secrecy::ExposeSecret as _;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Request, Response, Status, service::Routes};
use uuid::Uuid;

use super::{auth::Credentials, filesync::ContextSync, transport::Connection};
use crate::{EngineError, RegistryAuth, Secret, Tree};

/// buildkitd asks for the session's health every 5 s; four missed ones mean that it is gone.
const SILENCE: Duration = Duration::from_secs(20);

/// The tasks end as soon as their stream does; this bounds a read from a disk that hangs.
const CLOSING: Duration = Duration::from_secs(5);

/// What the session serves, as its headers announce it.
const METHODS: [&str; 7] = [
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.filesync.v1.Auth/FetchToken",
    "/moby.filesync.v1.Auth/GetTokenAuthority",
    "/moby.filesync.v1.Auth/VerifyTokenAuthority",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
];

/// What a session gives the daemon.
pub(super) struct Offers {
    /// Under which the daemon keeps the context's files for later sessions; `None` for this one only.
    pub(super) context_key: Option<String>,
    pub(super) context: Arc<Tree>,
    pub(super) auth: Arc<dyn RegistryAuth>,
    pub(super) secrets: BTreeMap<String, Secret>,
}

/// A session that the daemon may call.
pub(super) struct Session {
    id: String,
    server: AbortOnDropHandle<()>,
    tasks: TaskTracker,
    pings: watch::Receiver<Instant>,
}

impl Session {
    /// Opens a session and serves it.
    pub(super) async fn open(connection: &Connection, offers: Offers) -> Result<Self, EngineError> {
        let id = Uuid::new_v4().simple().to_string();
        let credentials = Credentials::new(offers.auth)
            .map_err(|_| EngineError::Protocol("no randomness for a session key".to_owned()))?;
        let tasks = TaskTracker::new();
        let (ping, pings) = watch::channel(Instant::now());
        let routes = Routes::new(HealthServer::new(Pinged(ping)))
            .add_service(FileSyncServer::new(ContextSync::new(offers.context, tasks.clone())))
            .add_service(AuthServer::new(credentials))
            .add_service(SecretsServer::new(Offered(offers.secrets)))
            .prepare();
        let io = connection.open_session(headers(&id, offers.context_key.as_deref())?).await?;
        let serve = hyper::server::conn::http2::Builder::new(Owned(tasks.clone()))
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(routes));
        let server = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::debug!(%error, "the session's connection ended");
            }
        });
        Ok(Self { id, server: AbortOnDropHandle::new(server), tasks, pings })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns once the daemon hasn't asked for the session's health for too long.
    pub(super) async fn silence(&self) {
        let mut pings = self.pings.clone();
        loop {
            let last = *pings.borrow_and_update();
            match timeout_at(last + SILENCE, pings.changed()).await {
                Ok(Ok(())) => {}
                // The daemon closed the session; it will say why as the solve's error.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return,
            }
        }
    }

    /// Ends the session and waits for its tasks.
    pub(super) async fn close(self) {
        self.server.abort();
        let _ = self.server.await;
        self.tasks.close();
        if timeout(CLOSING, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "tasks of a closed session linger");
        }
    }
}

fn headers(id: &str, context_key: Option<&str>) -> Result<HeaderMap, EngineError> {
    let value = |text| HeaderValue::from_str(text).map_err(|e| EngineError::Protocol(e.to_string()));
    let mut headers = HeaderMap::new();
    headers.insert("x-docker-expose-session-uuid", value(id)?);
    // Files that were synced before are looked up under this key by name, size and time alone:
    // shared between two contexts, the second would get the first one's bytes.
    headers.insert("x-docker-expose-session-sharedkey", value(context_key.unwrap_or(id))?);
    for method in METHODS {
        let name = HeaderName::from_static("x-docker-expose-session-grpc-method");
        headers.append(name, HeaderValue::from_static(method));
    }
    Ok(headers)
}

/// Runs the streams of the session's connection as tasks that the session can await.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Answers health checks and remembers when.
struct Pinged(watch::Sender<Instant>);

#[tonic::async_trait]
impl Health for Pinged {
    type WatchStream = stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.send_replace(Instant::now());
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("only Check"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("only Check"))
    }
}

/// The attempt's secrets.
struct Offered(BTreeMap<String, Secret>);

#[tonic::async_trait]
impl Secrets for Offered {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let secret = self.0.get(&id).ok_or_else(|| Status::not_found(format!("this build has no secret {id:?}")))?;
        Ok(Response::new(GetSecretResponse { data: secret.expose_secret().to_vec() }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_silent_twenty_seconds_after_its_last_ping() {
        let (ping, pings) = watch::channel(Instant::now());
        let server = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
        let session = Session { id: "s".to_owned(), server, tasks: TaskTracker::new(), pings };
        let pinged = Pinged(ping);
        let began = Instant::now();
        for _ in 0..3 {
            advance(Duration::from_secs(15)).await;
            let checked = pinged.check(Request::new(HealthCheckRequest::default())).await;
            assert!(checked.is_ok());
        }
        session.silence().await;
        assert_eq!(began.elapsed().as_secs(), 3 * 15 + SILENCE.as_secs());
    }

    #[test]
    fn a_session_shares_files_with_those_of_its_contexts_key_only() {
        let key = |id, context| headers(id, context).ok()?.get("x-docker-expose-session-sharedkey").cloned();
        assert!(key("one", None).is_some() && key("one", None) != key("two", None));
        assert!(key("one", Some("a")) == key("two", Some("a")) && key("one", Some("a")) != key("one", Some("b")));
    }
}
