//! Daemons that are ready before there is a build for them. Each is given to one build, and goes with it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Inner,
    config::Profile,
    manifest::{Plan, Purpose},
    names, resources,
    run::{Daemon, MARGIN},
    trouble::Trouble,
};
use crate::{EngineError, Limits};

/// Before another pod is tried where one couldn't be made or didn't last, the first time and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The daemons that wait, the oldest first.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Waiting>>);

struct Waiting {
    daemon: Arc<Daemon>,
    /// Tells whoever made it that it isn't theirs any more.
    taken: oneshot::Sender<()>,
}

/// How a daemon's wait ended.
#[derive(PartialEq, Eq, Debug)]
enum Wait {
    /// A build has it.
    Taken,
    /// It isn't fit for a build of full length any more, or Kiln stops.
    Over,
    /// Its pod went away.
    Lost,
}

// === impl Pool ===

impl Pool {
    /// The oldest daemon, for good.
    pub(super) fn take(&self, profile: Profile) -> Option<Arc<Daemon>> {
        let mut waiting = self.waiting();
        let at = waiting.iter().position(|waiting| waiting.daemon.profile == profile)?;
        let Waiting { daemon, taken } = waiting.remove(at);
        // Whoever made it may have stopped waiting; under the lock it hasn't withdrawn it.
        let _ = taken.send(());
        Some(daemon)
    }

    /// How many wait.
    pub(super) fn ready(&self) -> usize {
        self.waiting().len()
    }

    fn offer(&self, daemon: &Arc<Daemon>) -> oneshot::Receiver<()> {
        let (taken, told) = oneshot::channel();
        self.waiting().push(Waiting { daemon: Arc::clone(daemon), taken });
        told
    }

    /// Takes a daemon back; whether it still was here.
    fn withdraw(&self, daemon: &Arc<Daemon>) -> bool {
        let mut waiting = self.waiting();
        let before = waiting.len();
        waiting.retain(|waiting| !Arc::ptr_eq(&waiting.daemon, daemon));
        waiting.len() < before
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Inner ===

impl Inner {
    /// Keeps as many daemons ready as configured until `stop`; then removes those that no build took.
    pub(super) async fn keep_warm(self: Arc<Self>, stop: CancellationToken) {
        let places = (0..self.config.warm.pods).map(|_| self.keep_one(&stop));
        join_all(places).await;
    }

    /// A daemon that waits and fits, if there is one.
    pub(super) fn warm(&self, limits: &Limits, profile: Profile) -> Option<Arc<Daemon>> {
        let warm = &self.config.warm.limits;
        let requests = &self.config.pods.requests;
        let fits = limits.deadline <= warm.deadline
            && resources::requirements(limits, requests) == resources::requirements(warm, requests);
        fits.then(|| self.pool.take(profile)).flatten()
    }

    /// One place of the pool, filled again and again.
    async fn keep_one(self: &Arc<Self>, stop: &CancellationToken) {
        let mut pause = PAUSE.0;
        while !stop.is_cancelled() {
            let lost = match Box::pin(self.ready(stop)).await {
                Ok(None) => return,
                Ok(Some(daemon)) => self.wait(&Arc::new(daemon), stop).await == Wait::Lost,
                Err(trouble) => {
                    tracing::warn!(%trouble, "no pod could be made ready for builds to come");
                    true
                }
            };
            if lost {
                stop.run_until_cancelled(sleep(pause)).await;
                pause = (pause * 2).min(PAUSE.1);
            } else {
                pause = PAUSE.0;
            }
        }
    }

    /// Makes a daemon and sees that it answers; `None` once `stop` fired.
    async fn ready(self: &Arc<Self>, stop: &CancellationToken) -> Result<Option<Daemon>, EngineError> {
        let Some(proof) = stop.run_until_cancelled(Arc::clone(self).proved(Duration::MAX)).await else {
            return Ok(None);
        };
        let profile = proof?.profile;
        // To its end: a Job whose creation nobody awaits is nobody's.
        let daemon = Daemon { warm: true, ..self.daemon(&self.warm_plan(profile), profile).await? };
        let until = Instant::now() + self.config.start_deadline;
        let answers = stop.run_until_cancelled(self.reached(&daemon, until, None)).await;
        match answers {
            Some(Ok(_)) => return Ok(Some(daemon)),
            None => {}
            Some(Err(ref trouble)) if trouble.is_of_pods_like_it() => self.doubt().await,
            Some(Err(_)) => {}
        }
        daemon.owned.remove().await;
        answers.map_or(Ok(None), |answers| answers.map_err(EngineError::from).map(|_| None))
    }

    /// Offers a daemon to builds until one takes it, or it is of no use any more.
    async fn wait(&self, daemon: &Arc<Daemon>, stop: &CancellationToken) -> Wait {
        let taken = self.pool.offer(daemon);
        let wait = tokio::select! {
            _ = taken => return Wait::Taken,
            () = stop.cancelled() => Wait::Over,
            () = sleep_until(Instant::now() + self.config.warm.age) => Wait::Over,
            ended = daemon.owned.ended() => {
                let trouble = ended.map_or_else(|trouble| trouble, |words| Trouble::Exited { status: 0, words });
                tracing::info!(%trouble, "a pod that waited for a build went away");
                Wait::Lost
            }
        };
        if !self.pool.withdraw(daemon) {
            return Wait::Taken;
        }
        daemon.owned.remove().await;
        wait
    }

    fn warm_plan(&self, profile: Profile) -> Plan {
        let (run, warm) = (Uuid::new_v4(), &self.config.warm);
        Plan {
            name: names::of_warm(self.config.instance, run),
            labels: names::warm_labels(self.config.instance, self.process),
            run,
            purpose: Purpose::Daemon(profile),
            resources: resources::requirements(&warm.limits, &self.config.pods.requests),
            // It has no owner yet.
            cache: None,
            // Taken at the last moment, it still has all of a build before it. Its certificates hold as long.
            deadline: self.config.start_deadline + warm.age + warm.limits.deadline + MARGIN,
        }
    }
}
