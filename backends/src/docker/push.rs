//! Pushes what a graph-driver store keeps: under its tag, since the Engine knows no other push.

use std::time::Duration;

use bollard::{auth::DockerCredentials, query_parameters::PushImageOptionsBuilder};
use futures_util::TryStreamExt as _;
use secrecy::ExposeSecret as _;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::engine::Engine;
use crate::{
    AttemptName, BuildId, Destination, EngineError, EventKind, EventSink, InstanceId, Pushed, RegistryAuth, RunError,
    buildkit::{
        attempt::{BACKOFF, Interrupt, SOLVES},
        causes,
        failure::{Verdict, public},
        registry::{self, Action},
    },
};

/// Removing a local name takes milliseconds; a stuck engine must not hold a finished attempt.
const REMOVING: Duration = Duration::from_secs(10);

/// One attempt's push.
pub(super) struct Push<'a> {
    engine: Engine,
    auth: &'a dyn RegistryAuth,
    to: &'a Destination,
    events: &'a EventSink,
    interrupt: &'a Interrupt,
    /// The name under which the build left the image.
    kept: String,
    /// The destination as the Engine names it, without the tag.
    repository: String,
}

/// The name under which an attempt's image is kept: `kiln/<instance>:<build>-<attempt>`.
pub(super) fn kept_name(attempt: &AttemptName) -> String {
    format!("{}:{}-{}", kept_repository(attempt.instance), attempt.build.0.simple(), attempt.attempt)
}

fn kept_repository(instance: InstanceId) -> String {
    format!("kiln/{}", instance.0.simple())
}

/// The images that attempts of this instance have left on the engine.
pub(super) async fn kept_images(
    engine: &Engine,
    instance: InstanceId,
) -> Result<Vec<(String, AttemptName)>, EngineError> {
    let tags = engine.tags_of(&kept_repository(instance)).await?;
    Ok(tags.into_iter().filter_map(|name| attempt_of(&name, instance).map(|attempt| (name, attempt))).collect())
}

fn attempt_of(name: &str, instance: InstanceId) -> Option<AttemptName> {
    let (build, attempt) = name.rsplit_once(':')?.1.split_once('-')?;
    Some(AttemptName { instance, build: BuildId(Uuid::try_parse(build).ok()?), attempt: attempt.parse().ok()? })
}

impl<'a> Push<'a> {
    pub(super) fn new(
        engine: Engine,
        auth: &'a dyn RegistryAuth,
        to: &'a Destination,
        events: &'a EventSink,
        interrupt: &'a Interrupt,
        kept: String,
    ) -> Self {
        let registry = match to.registry.as_str() {
            // The Engine knows Docker Hub by this name alone.
            "registry-1.docker.io" | "index.docker.io" => "docker.io",
            registry => registry,
        };
        let repository = format!("{registry}/{}", to.target.repository());
        Self { engine, auth, to, events, interrupt, kept, repository }
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Pushes while holding the repository's lock, and again while the registry has trouble.
    pub(super) async fn run(&self, lock: &Mutex<()>) -> Result<Pushed, RunError> {
        let _held = self.interrupt.or(lock.lock()).await?;
        let outcome = self.push_until_settled().await;
        self.remove(&format!("{}:{}", self.repository, self.to.target.tag())).await;
        outcome
    }

    /// Removes the name under which the build left the image.
    pub(super) async fn forget_build(&self) {
        self.remove(&self.kept).await;
    }

    async fn push_until_settled(&self) -> Result<Pushed, RunError> {
        let tag = self.to.target.tag();
        let tagged = self.interrupt.or(self.engine.tag(&self.kept, &self.repository, tag)).await?;
        tagged.map_err(|source| RunError::Engine { retryable: true, source })?;
        let mut pause = BACKOFF;
        let mut tried = 1;
        loop {
            match self.interrupt.or(self.push_once(tag)).await? {
                Ok(pushed) => return Ok(pushed),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::Registry(failure)) if tried >= SOLVES => return Err(RunError::Build(failure)),
                Err(Verdict::Registry(failure)) => {
                    tried += 1;
                    let text = format!("{}; trying again ({tried} of {SOLVES})", failure.message);
                    self.events.emit(EventKind::Warning { text }).await;
                    self.interrupt.or(sleep(pause)).await?;
                    pause *= 2;
                }
            }
        }
    }

    /// Dropped, it closes its connection, and the Engine stops pushing.
    async fn push_once(&self, tag: &str) -> Result<Pushed, Verdict> {
        let credentials = self.auth.basic(&self.to.registry).await;
        let credentials = credentials.map(|basic| DockerCredentials {
            username: Some(basic.username),
            password: Some(basic.password.expose_secret().to_owned()),
            serveraddress: Some(self.to.registry.clone()),
            ..DockerCredentials::default()
        });
        let options = PushImageOptionsBuilder::new().tag(tag).build();
        let mut progress = Box::pin(self.engine.api.push_image(&self.repository, Some(options), credentials));
        let mut digest = None;
        loop {
            match progress.try_next().await {
                Ok(Some(line)) => {
                    if let Some(error) = line.error_detail.and_then(|detail| detail.message) {
                        return Err(self.judge(&error));
                    }
                    digest = line.status.as_deref().and_then(pushed_digest).or(digest);
                }
                Ok(None) => break,
                Err(error) => return Err(self.judge(&causes(&error))),
            }
        }
        digest.map(|digest| Pushed { digest }).ok_or_else(|| {
            let source = EngineError::Protocol("no digest for what it pushed".to_owned());
            Verdict::Final(RunError::Engine { retryable: false, source })
        })
    }

    fn judge(&self, error: &str) -> Verdict {
        registry::judge(Action::Push(&self.repository), error).unwrap_or_else(|| {
            Verdict::Final(RunError::Engine { retryable: true, source: EngineError::Lost(public(error)) })
        })
    }

    async fn remove(&self, name: &str) {
        match timeout(REMOVING, self.engine.untag(name)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, name, "a local name stays on the engine"),
            Err(_) => tracing::warn!(name, "a local name stays on the engine: it did not answer"),
        }
    }
}

/// The digest in the Engine's last line, `1: digest: sha256:… size: 527`.
fn pushed_digest(status: &str) -> Option<String> {
    let digest = status.split_once("digest: ")?.1.split(' ').next()?;
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_image_names_its_attempt() {
        let attempt = AttemptName { instance: InstanceId(Uuid::from_u128(7)), build: BuildId::new(), attempt: 3 };
        assert_eq!(attempt_of(&kept_name(&attempt), attempt.instance), Some(attempt));
        assert_eq!(attempt_of("kiln/x:latest", attempt.instance), None);
    }

    #[test]
    fn the_digest_is_in_the_last_line() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(pushed_digest(&format!("latest: digest: {digest} size: 527")), Some(digest));
        assert_eq!(pushed_digest("latest: digest: sha256:short size: 1"), None);
        assert_eq!(pushed_digest("Pushed"), None);
    }
}
