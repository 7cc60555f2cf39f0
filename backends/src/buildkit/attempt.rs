//! Runs one attempt on a daemon: connection, session, solve, and again while the registry has
//! trouble; it returns when nothing of the attempt runs any more, here or on the daemon.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, StatusRequest, StatusResponse};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{
    failure::{self, Verdict},
    session::{Offers, Session},
    solve::{self, Export, StepSettings},
    status::Fold,
    transport::{Connection, Transport},
};
use crate::{BuildSpec, EngineError, EventKind, EventSink, Failure, Reason, RunError, syntax_of};

/// Solves of one attempt; those after the first find everything cached but what failed.
pub(crate) const SOLVES: u32 = 3;
/// Before the second solve; doubled before each further one.
pub(crate) const BACKOFF: Duration = Duration::from_secs(1);
/// After a solve: the last events are on their way, and a daemon may keep the stream open.
const LAST_EVENTS: Duration = Duration::from_secs(3);
/// After a cancel: killing a step's processes and unmounting takes a second or two.
const CLEANING: Duration = Duration::from_secs(10);

/// What the exporter reported, such as `containerimage.digest`.
pub(crate) type Exported = HashMap<String, String>;

/// One attempt, and what it talks to.
pub(crate) struct Attempt<'a> {
    pub(crate) spec: &'a BuildSpec,
    pub(crate) export: Export<'a>,
    pub(crate) steps: &'a StepSettings,
    pub(crate) events: &'a EventSink,
    pub(crate) interrupt: &'a Interrupt,
}

/// What ends an attempt from outside.
pub(crate) struct Interrupt {
    cancel: CancellationToken,
    deadline: Instant,
    allowed: Duration,
}

/// How a solve ended.
enum Ended {
    Solved(Result<Exported, tonic::Status>),
    Interrupted(RunError),
    Silent,
}

// === impl Interrupt ===

impl Interrupt {
    pub(crate) fn new(cancel: CancellationToken, allowed: Duration) -> Self {
        Self { cancel, deadline: Instant::now() + allowed, allowed }
    }

    /// Returns once `cancel` has fired or the time is over.
    pub(crate) async fn fired(&self) -> RunError {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => RunError::Cancelled,
            () = sleep_until(self.deadline) => RunError::Build(Failure::new(
                Reason::DeadlineExceeded,
                format!("the build took longer than the {} s it may take", self.allowed.as_secs()),
            )),
        }
    }

    /// Awaits `work` unless interrupted first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, RunError> {
        tokio::select! {
            biased;
            interrupted = self.fired() => Err(interrupted),
            done = work => Ok(done),
        }
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// Connects, and runs it to its end.
    pub(crate) async fn run(self, transport: &Transport) -> Result<Exported, RunError> {
        let connection = self.interrupt.or(transport.connect()).await?;
        let connection = connection.map_err(|source| RunError::Engine { retryable: true, source })?;
        self.run_on(connection).await
    }

    /// Runs it to its end over a connection of its own.
    pub(crate) async fn run_on(self, connection: Connection) -> Result<Exported, RunError> {
        let lost = |source| RunError::Engine { retryable: true, source };
        let offers = Offers {
            context_key: self.spec.context.content_hash().map(|content| self.spec.tenant.context_key(&content)),
            context: Arc::clone(&self.spec.context),
            auth: Arc::clone(&self.spec.registry_auth),
            secrets: self.spec.secrets.clone(),
        };
        let session = self.interrupt.or(Session::open(&connection, offers)).await?.map_err(lost)?;
        if self.spec.frontend.is_none() && syntax_of(&self.spec.context, &self.spec.dockerfile).await.is_some() {
            let text = "the Dockerfile's syntax line is not followed: the engine's own frontend reads it".to_owned();
            self.events.emit(EventKind::Warning { text }).await;
        }
        let outcome = self.solve_until_settled(&connection, &session).await;
        session.close().await;
        outcome
    }

    async fn solve_until_settled(&self, connection: &Connection, session: &Session) -> Result<Exported, RunError> {
        let mut fold = Fold::default();
        let mut pause = BACKOFF;
        let mut solve = 1;
        loop {
            let reference = match solve {
                1 => self.spec.attempt.to_string(),
                again => format!("{}.{again}", self.spec.attempt),
            };
            let request = solve::request(self.spec, reference, session.id(), &self.export, self.steps);
            let ended = self.solve(connection, session, request, &mut fold).await;
            let verdict = match ended {
                Ended::Solved(Ok(exported)) => Ok(exported),
                Ended::Solved(Err(status)) => Err(failure::judge(&status, &fold, self.spec)),
                Ended::Interrupted(why) => Err(Verdict::Final(why)),
                Ended::Silent => Err(Verdict::Final(RunError::Engine {
                    retryable: true,
                    source: EngineError::Lost("it has not asked for the session's health for 20 s".to_owned()),
                })),
            };
            for event in fold.end() {
                self.events.send(event).await;
            }
            match verdict {
                Ok(exported) => return Ok(exported),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::Registry(failure)) if solve >= SOLVES => return Err(RunError::Build(failure)),
                Err(Verdict::Registry(failure)) => {
                    solve += 1;
                    let text = format!("{}; trying again ({solve} of {SOLVES})", failure.message);
                    self.events.emit(EventKind::Warning { text }).await;
                    self.interrupt.or(sleep(pause)).await?;
                    pause *= 2;
                }
            }
        }
    }

    /// One solve with its status stream. Dropping the call is what cancels it on the daemon.
    async fn solve(&self, connection: &Connection, session: &Session, request: SolveRequest, fold: &mut Fold) -> Ended {
        let mut status = Box::pin(self.follow(connection, request.r#ref.clone(), fold));
        let mut followed = false;
        let ended = {
            let mut control = connection.control.clone();
            let mut solving = Box::pin(async move { control.solve(request).await });
            loop {
                tokio::select! {
                    biased;
                    solved = &mut solving => break Ended::Solved(solved.map(|r| r.into_inner().exporter_response)),
                    () = &mut status, if !followed => followed = true,
                    why = self.interrupt.fired() => break Ended::Interrupted(why),
                    () = session.silence() => break Ended::Silent,
                }
            }
        };
        let patience = match &ended {
            Ended::Solved(_) => LAST_EVENTS,
            // The stream ends when the daemon has let go of the build.
            Ended::Interrupted(_) => CLEANING,
            Ended::Silent => Duration::ZERO,
        };
        if !followed && timeout(patience, status).await.is_err() {
            tracing::warn!(attempt = %self.spec.attempt, "the daemon still held the build after {patience:?}");
        }
        ended
    }

    /// Passes the daemon's status on as events until it ends.
    async fn follow(&self, connection: &Connection, reference: String, fold: &mut Fold) {
        let mut stream: Streaming<StatusResponse> =
            match connection.control.clone().status(StatusRequest { r#ref: reference }).await {
                Ok(stream) => stream.into_inner(),
                Err(error) => return tracing::debug!(%error, "no status"),
            };
        while let Ok(Some(message)) = stream.message().await {
            for event in fold.fold(message) {
                self.events.send(event).await;
            }
        }
    }
}
