//! A Job of Kiln's from its creation to its removal, watched all the while.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
    runtime::{
        wait::{await_condition, conditions},
        watcher,
    },
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    api::{Cluster, Unanswered, ask},
    config::Pods,
    manifest::{Plan, RUN},
    names::{Labels, WARM},
    seen::{Seen, Verdict, Watched},
    trouble::Trouble,
};
use crate::{EngineError, EventKind, EventSink};

/// How often a Job without a running container is asked why, in events.
const LOOK: Duration = Duration::from_secs(2);
/// How long an earlier Job of the same name may take to be gone.
const LEAVING: Duration = Duration::from_secs(15);
/// Before a watch that broke is begun again.
const PAUSE: Duration = Duration::from_millis(500);
/// Seconds after which a watch is renewed, lest a connection that died unnoticed goes on for long.
const RENEWED: u32 = 60;

/// A Job that is this process's.
pub(super) struct OwnedJob {
    cluster: Cluster,
    name: String,
    uid: String,
    seen: watch::Receiver<Seen>,
    _watching: AbortOnDropHandle<()>,
}

impl OwnedJob {
    /// Creates the Job suspended, then what it owns, then lets it run.
    pub(super) async fn create(
        cluster: &Cluster,
        plan: &Plan,
        pods: &Pods,
        secret: impl FnOnce(&Job) -> Option<Secret>,
    ) -> Result<Self, EngineError> {
        let job = Box::pin(created(cluster, plan, pods)).await?;
        let uid = job.uid().unwrap_or_default();
        let (sender, seen) = watch::channel(Seen::default());
        let watching = tokio::spawn(follow(cluster.clone(), plan.name.clone(), uid.clone(), sender));
        let owned = Self {
            cluster: cluster.clone(),
            name: plan.name.clone(),
            uid,
            seen,
            _watching: AbortOnDropHandle::new(watching),
        };
        match Box::pin(owned.release(secret(&job))).await {
            Ok(()) => Ok(owned),
            Err(error) => {
                owned.remove().await;
                Err(error)
            }
        }
    }

    async fn release(&self, secret: Option<Secret>) -> Result<(), EngineError> {
        if let Some(secret) = secret {
            let params = PostParams::default();
            match ask("create Secrets", || self.cluster.secrets.create(&params, &secret)).await {
                // Its name is this run's alone: an answer was lost.
                Ok(_) | Err(Unanswered::Exists) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let run = Patch::Merge(json!({"spec": {"suspend": false}}));
        let params = PatchParams::default();
        ask("patch Jobs", || self.cluster.jobs.patch(&self.name, &params, &run)).await?;
        Ok(())
    }

    /// Waits until the container runs, and tells its pod's address; `events` learn what it waits for.
    pub(super) async fn running(&self, until: Instant, events: Option<&EventSink>) -> Result<Option<String>, Trouble> {
        let mut seen = self.seen.clone();
        let mut looks = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        let mut told = "";
        loop {
            let verdict = seen.borrow_and_update().verdict();
            let mut why = match verdict {
                Verdict::Running(address) => return Ok(address),
                Verdict::Ended(trouble) => return Err(trouble),
                Verdict::Done(words) => return Err(Trouble::Exited { status: 0, words }),
                Verdict::Pending(why) => why,
            };
            tokio::select! {
                changed = seen.changed() => {
                    changed.map_err(|_| Trouble::Unstarted("it isn't watched any more".to_owned()))?;
                    continue;
                }
                _ = looks.tick() => {}
            }
            if why.is_none() {
                why = self.complaint().await;
            }
            if let Some(refused @ Trouble::Refused(_)) = why {
                return Err(refused);
            }
            if Instant::now() >= until {
                return Err(why.unwrap_or_else(|| Trouble::Unstarted("the cluster doesn't say why".to_owned())));
            }
            let public = why.as_ref().map_or("", Trouble::public);
            if let Some(events) = events.filter(|_| public != told && !public.is_empty()) {
                events.emit(EventKind::Note { text: format!("the build waits: {public}") }).await;
                told = public;
            }
        }
    }

    /// What the control plane and the node complain about in events: what makes no pod, or keeps a
    /// pod from being made, stands nowhere else.
    async fn complaint(&self) -> Option<Trouble> {
        let pod = self.pod().and_then(|pod| pod.uid);
        let of = pod.as_deref().unwrap_or(&self.uid);
        let params = ListParams::default().fields(&format!("involvedObject.uid={of},type=Warning"));
        // Whoever may not read events learns the less.
        let events = timeout(LOOK, self.cluster.events.list(&params)).await.ok()?.ok()?.items;
        let last = events.into_iter().max_by_key(|event| event.last_timestamp.clone().map(|time| time.0))?;
        Some(complaint(&last))
    }

    /// Returns when the pod is over, or the Job; with the last words of one that ended well.
    pub(super) async fn ended(&self) -> Result<String, Trouble> {
        let mut seen = self.seen.clone();
        let over = |seen: &Seen| matches!(seen.verdict(), Verdict::Ended(_) | Verdict::Done(_));
        let verdict = seen.wait_for(over).await.map(|seen| seen.verdict());
        match verdict {
            Ok(Verdict::Done(words)) => Ok(words),
            Ok(Verdict::Ended(trouble)) => Err(trouble),
            // Nobody watches any more, so nobody learns.
            _ => std::future::pending().await,
        }
    }

    /// The pod, if there was one.
    pub(super) fn pod(&self) -> Option<kube::api::ObjectMeta> {
        match &self.seen.borrow().pod {
            Watched::There(pod) | Watched::Gone(pod) => Some(pod.metadata.clone()),
            Watched::Never => None,
        }
    }

    /// Labels the Job as what it has become. Whoever looks into the cluster learns it by that, and nothing depends on it.
    pub(super) async fn relabel(&self, labels: &Labels) {
        let mut labels = json!(labels);
        labels[WARM] = serde_json::Value::Null;
        let patch = Patch::Merge(json!({"metadata": {"uid": self.uid, "labels": labels}}));
        let params = PatchParams::default();
        match ask("patch Jobs", || self.cluster.jobs.patch(&self.name, &params, &patch)).await {
            Ok(_) | Err(Unanswered::Missing) => {}
            Err(error) => tracing::warn!(job = self.name, ?error, "a Job doesn't show which build it is of"),
        }
    }

    /// Deletes the Job; the cluster deletes its pod and its Secret.
    pub(super) async fn remove(&self) {
        if let Err(error) = delete(&self.cluster.jobs, &self.name, &self.uid).await {
            tracing::warn!(job = self.name, ?error, "a Job was not removed; it ends at its own deadline");
        }
    }

    /// Waits until its pod is gone, for so long.
    pub(super) async fn gone(&self, within: Duration) -> bool {
        let mut seen = self.seen.clone();
        timeout(within, seen.wait_for(Seen::pod_is_gone)).await.is_ok()
    }
}

/// Creates a plan's Job, in place of one that an earlier run left under its name.
async fn created(cluster: &Cluster, plan: &Plan, pods: &Pods) -> Result<Job, EngineError> {
    let job = plan.job(pods);
    for last in [false, true] {
        let params = PostParams::default();
        match ask("create Jobs", || cluster.jobs.create(&params, &job)).await {
            Err(Unanswered::Exists) if !last => {}
            Err(error) => return Err(error.into()),
            Ok(job) => return Ok(job),
        }
        let Some(there) = ask("read Jobs", || cluster.jobs.get_opt(&plan.name)).await? else { continue };
        // The answer to its creation was lost.
        if there.annotations().get(RUN) == Some(&plan.run.to_string()) {
            return Ok(there);
        }
        let uid = there.uid().unwrap_or_default();
        delete(&cluster.jobs, &plan.name, &uid).await?;
        let gone = await_condition(cluster.jobs.clone(), &plan.name, conditions::is_deleted(&uid));
        let _ = timeout(LEAVING, Box::pin(gone)).await;
    }
    Err(EngineError::Protocol("that a Job exists and doesn't".to_owned()))
}

/// Deletes exactly this object, with what it owns. One that is gone is no error.
pub(super) async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<(), Unanswered>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match ask("delete Jobs, pods and PersistentVolumeClaims", || api.delete(name, &params)).await {
        Ok(_) | Err(Unanswered::Missing) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Keeps `sender` at what the cluster says, until it is aborted. A watch that breaks or expires is
/// begun again, and what changed meanwhile is seen then.
async fn follow(cluster: Cluster, name: String, uid: String, sender: watch::Sender<Seen>) {
    let of_job = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(RENEWED);
    let of_pod = format!("batch.kubernetes.io/controller-uid={uid}");
    let of_pod = watcher::Config::default().labels(&of_pod).timeout(RENEWED);
    let jobs = watcher(cluster.jobs, of_job);
    let pods = watcher(cluster.pods, of_pod);
    pin_mut!(jobs, pods);
    let (mut job_listed, mut pod_listed) = (false, false);
    loop {
        let broken = tokio::select! {
            Some(event) = jobs.next() => event.map(|event| {
                // Another Job of this name is not this one.
                let event = only(event, &uid);
                sender.send_modify(|seen| take_in(&mut seen.job, &mut job_listed, event));
            }),
            Some(event) = pods.next() => event.map(|event| {
                sender.send_modify(|seen| take_in(&mut seen.pod, &mut pod_listed, Some(event)));
            }),
            else => return,
        };
        if let Err(error) = broken {
            tracing::debug!(job = name, %error, "a watch is begun again");
            sleep(PAUSE).await;
        }
    }
}

/// The event, unless it is about another Job.
fn only(event: watcher::Event<Job>, uid: &str) -> Option<watcher::Event<Job>> {
    match &event {
        watcher::Event::Apply(job) | watcher::Event::InitApply(job) | watcher::Event::Delete(job) => {
            (job.metadata.uid.as_deref() == Some(uid)).then_some(event)
        }
        watcher::Event::Init | watcher::Event::InitDone => Some(event),
    }
}

fn take_in<K>(watched: &mut Watched<K>, listed: &mut bool, event: Option<watcher::Event<K>>) {
    match event {
        Some(watcher::Event::Apply(object)) => watched.update(Some(object)),
        Some(watcher::Event::Delete(object)) => {
            watched.update(Some(object));
            watched.update(None);
        }
        Some(watcher::Event::Init) => *listed = false,
        Some(watcher::Event::InitApply(object)) => {
            *listed = true;
            watched.update(Some(object));
        }
        Some(watcher::Event::InitDone) if !*listed => watched.update(None),
        Some(watcher::Event::InitDone) | None => {}
    }
}

/// What a warning means.
fn complaint(event: &Event) -> Trouble {
    let (reason, message) = (event.reason.clone().unwrap_or_default(), event.message.clone().unwrap_or_default());
    match reason.as_str() {
        "FailedCreate" if message.contains("exceeded quota") => Trouble::Quota(message),
        // A namespace has its service account a moment later than itself.
        "FailedCreate" if message.contains("forbidden") && !message.contains("looking up service account") => {
            Trouble::Refused(message)
        }
        "FailedScheduling" => Trouble::Unscheduled(message),
        _ => Trouble::Unstarted(format!("{reason}: {message}")),
    }
}
