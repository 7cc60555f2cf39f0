//! Reads the configuration anew while Kiln runs: on SIGHUP, and when its file changes.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Config, ConfigError, Limits};

/// How often the file's age is looked at. A mounted one changes without a signal.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where a configuration comes from: variables stay as they were at the start.
#[derive(Clone, Default)]
pub struct Source {
    pub(super) file: Option<PathBuf>,
    pub(super) variables: Arc<BTreeMap<String, String>>,
}

/// Waits for a reason to read the configuration anew.
#[derive(Debug)]
pub struct Reload {
    source: Source,
    hangup: Signal,
    stamp: Option<Stamp>,
}

/// What tells one state of a file from another.
type Stamp = (SystemTime, u64);

impl Source {
    fn read(&self) -> Result<Config, ConfigError> {
        Config::load(self.file.as_deref(), &self.variables)
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = std::fs::metadata(self.file.as_ref()?).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

/// Without the variables: some are passwords.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Reload {
    /// From here on SIGHUP ends the process no more.
    ///
    /// # Errors
    /// When the signal can't be listened to.
    pub fn of(source: Source) -> io::Result<Self> {
        let stamp = source.stamp();
        Ok(Self { source, hangup: signal(SignalKind::hangup())?, stamp })
    }

    /// Hands the limits to `apply` each time the configuration was read anew, until `stop`. One that
    /// can't be used is told of, and changes nothing.
    pub async fn run(mut self, apply: impl Fn(&Limits), stop: CancellationToken) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                () = changed(&self.source, self.stamp) => {}
                () = stop.cancelled() => return,
            }
            self.stamp = self.source.stamp();
            match self.source.read() {
                Ok(config) => {
                    apply(&config.limits);
                    tracing::info!("the limits of requests were read anew; other settings wait for a restart");
                }
                Err(error) => tracing::error!(%error, "the configuration can't be used; the limits stay as they were"),
            }
        }
    }
}

async fn changed(source: &Source, since: Option<Stamp>) {
    loop {
        sleep(LOOK_EVERY).await;
        if source.stamp() != since {
            return;
        }
    }
}
