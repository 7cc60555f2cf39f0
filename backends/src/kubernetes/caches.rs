//! Volumes on which an owner's layers outlive their daemons: one for each owner, with one build at a time.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard_buildkit_proto::moby::buildkit::v1::PruneRequest;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Inner,
    api::{Unanswered, ask},
    names::{self, CACHE, OWNER},
    owned::delete,
    resources,
    run::Daemon,
};
use crate::{EngineError, TenantKey, buildkit::causes};

/// The annotation that tells when a volume was last given to a build, in seconds since 1970.
const USED: &str = "kiln/used";
/// How long a build waits for its volume before it does without: an earlier build's pod may be about to leave it.
const WITHIN: Duration = Duration::from_secs(15);
/// How often volumes that nobody needs any more are looked for.
const LOOK: Duration = Duration::from_secs(600);
/// How long a daemon may take to make room on its volume at the end of a build.
const PRUNING: Duration = Duration::from_secs(10);

/// Who has a volume at the moment.
pub(super) struct Leases {
    held: watch::Sender<HashMap<String, Phase>>,
    /// One chooses at a time, so that there are no more volumes than there may be.
    choosing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Building,
    /// The build is over, and its pod about to go.
    Leaving,
}

/// A volume that is one build's until this is dropped.
pub(super) struct Lease {
    volume: PersistentVolumeClaim,
    held: Held,
}

/// An owner's turn.
struct Held {
    owner: String,
    held: watch::Sender<HashMap<String, Phase>>,
}

// === impl Leases ===

impl Leases {
    pub(super) fn new() -> Self {
        Self { held: watch::Sender::new(HashMap::new()), choosing: tokio::sync::Mutex::default() }
    }

    /// The owner's turn, unless another build of theirs has it and goes on.
    async fn hold(&self, owner: String) -> Option<Held> {
        let mut seen = self.held.subscribe();
        loop {
            let mut before = None;
            self.held.send_if_modified(|held| {
                before = held.get(&owner).copied();
                if before.is_none() {
                    held.insert(owner.clone(), Phase::Building);
                }
                before.is_none()
            });
            match before {
                None => return Some(Held { owner, held: self.held.clone() }),
                Some(Phase::Building) => return None,
                Some(Phase::Leaving) => {
                    seen.wait_for(|held| held.get(&owner) != Some(&Phase::Leaving)).await.ok()?;
                }
            }
        }
    }

    fn has(&self, volume: &PersistentVolumeClaim) -> bool {
        volume.labels().get(OWNER).is_some_and(|owner| self.held.borrow().contains_key(owner))
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        self.held.send_modify(|held| {
            held.remove(&self.owner);
        });
    }
}

// === impl Lease ===

impl Lease {
    pub(super) fn volume(&self) -> String {
        self.volume.name_any()
    }

    /// Tells the owner's next build that it is worth a moment's waiting.
    fn leaves(&self) {
        let Held { owner, held } = &self.held;
        held.send_modify(|held| {
            held.insert(owner.clone(), Phase::Leaving);
        });
    }
}

// === impl Inner ===

impl Inner {
    /// The owner's volume, if it is free. A build never fails for want of it.
    pub(super) async fn lease(&self, owner: &TenantKey) -> Option<Lease> {
        if self.config.caches.volumes == 0 {
            return None;
        }
        match timeout(WITHIN, Box::pin(self.leased(owner.step_hostname()))).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a build does without its owner's cache");
                None
            }
            Err(_) => None,
        }
    }

    async fn leased(&self, owner: String) -> Result<Option<Lease>, EngineError> {
        let Some(held) = self.leases.hold(owner).await else { return Ok(None) };
        let _choosing = self.leases.choosing.lock().await;
        let mut volumes = self.volumes().await?;
        let own = volumes.iter().position(|volume| volume.labels().get(OWNER) == Some(&held.owner));
        let volume = match own {
            Some(at) => {
                let volume = volumes.swap_remove(at);
                // A pod of a process that was killed, say: two daemons on one volume would spoil it.
                if self.is_mounted(&volume).await? {
                    return Ok(None);
                }
                volume
            }
            None if volumes.len() < self.config.caches.volumes => self.create_volume(&held.owner).await?,
            None => {
                let free = volumes.iter().filter(|volume| !self.leases.has(volume));
                let Some(oldest) = free.min_by_key(|volume| used(volume)) else { return Ok(None) };
                self.delete_volume(oldest).await?;
                self.create_volume(&held.owner).await?
            }
        };
        self.mark_used(&volume).await?;
        Ok(Some(Lease { volume, held }))
    }

    /// This installation's volumes, but for those that go already.
    async fn volumes(&self) -> Result<Vec<PersistentVolumeClaim>, Unanswered> {
        let ours = ListParams::default().labels(&format!("{},{CACHE}", names::of_instance(self.config.instance)));
        let mut found = ask("list PersistentVolumeClaims", || self.cluster.volumes.list(&ours)).await?.items;
        found.retain(|volume| volume.metadata.deletion_timestamp.is_none());
        Ok(found)
    }

    async fn is_mounted(&self, volume: &PersistentVolumeClaim) -> Result<bool, Unanswered> {
        let of = ListParams::default().labels(&format!("{CACHE}={}", volume.name_any())).limit(1);
        Ok(!ask("list pods", || self.cluster.pods.list(&of)).await?.items.is_empty())
    }

    async fn create_volume(&self, owner: &str) -> Result<PersistentVolumeClaim, Unanswered> {
        let name = names::of_cache(self.config.instance, Uuid::new_v4());
        let size = [("storage".to_owned(), resources::bytes(self.config.caches.size))];
        let volume = PersistentVolumeClaim {
            metadata: ObjectMeta {
                labels: Some(names::cache_labels(self.config.instance, owner, &name)),
                name: Some(name),
                ..ObjectMeta::default()
            },
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                storage_class_name: self.config.caches.storage_class.clone(),
                resources: Some(VolumeResourceRequirements { requests: Some(BTreeMap::from(size)), limits: None }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        };
        let params = PostParams::default();
        ask("create PersistentVolumeClaims", || self.cluster.volumes.create(&params, &volume)).await
    }

    async fn mark_used(&self, volume: &PersistentVolumeClaim) -> Result<(), Unanswered> {
        let used = Patch::Merge(json!({"metadata": {"annotations": {USED: now().to_string()}}}));
        let (name, params) = (volume.name_any(), PatchParams::default());
        ask("patch PersistentVolumeClaims", || self.cluster.volumes.patch(&name, &params, &used)).await.map(drop)
    }

    async fn delete_volume(&self, volume: &PersistentVolumeClaim) -> Result<(), Unanswered> {
        delete(&self.cluster.volumes, &volume.name_any(), &volume.uid().unwrap_or_default()).await
    }

    /// Deletes a volume on which a daemon didn't start; the next build gets an empty one.
    pub(super) async fn give_up(&self, lease: &Lease) {
        if let Err(error) = self.delete_volume(&lease.volume).await {
            tracing::warn!(volume = lease.volume(), ?error, "a cache on which no daemon starts was not deleted");
        }
    }

    /// Has the daemon of a build that is over make room on its volume, as it wouldn't live to do it by itself.
    pub(super) async fn leave(&self, daemon: &Daemon, lease: &Lease) {
        lease.leaves();
        let until = Instant::now() + PRUNING;
        let pruned = timeout(PRUNING, async {
            // One that ended has nothing to say.
            let Ok((_, connection)) = self.reached(daemon, until, None).await else { return Ok(()) };
            let request = PruneRequest {
                all: true,
                max_used_space: i64::try_from(bound(self.config.caches.size)).unwrap_or(i64::MAX),
                ..PruneRequest::default()
            };
            let mut freed = connection.control.clone().prune(request).await?.into_inner();
            while freed.message().await?.is_some() {}
            Ok::<_, tonic::Status>(())
        });
        match pruned.await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => tracing::warn!(cause = causes(&status), "a daemon made no room in its cache"),
            Err(_) => tracing::warn!("a daemon made no room in its cache in {PRUNING:?}"),
        }
    }

    /// Deletes volumes that weren't used for long, or are more than there may be, until `stop`.
    pub(super) async fn keep_caches(&self, stop: CancellationToken) {
        let pause = LOOK.min(self.config.caches.age / 2).max(Duration::from_secs(1));
        while !stop.is_cancelled() {
            if let Some(Err(error)) = stop.run_until_cancelled(Box::pin(self.delete_stale())).await {
                tracing::debug!(%error, "caches that nobody uses were not deleted");
            }
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    async fn delete_stale(&self) -> Result<(), EngineError> {
        let _choosing = self.leases.choosing.lock().await;
        let mut volumes = self.volumes().await?;
        // The latest first.
        volumes.sort_by_key(|volume| std::cmp::Reverse(used(volume)));
        let before = now().saturating_sub(self.config.caches.age.as_secs());
        for (at, volume) in volumes.iter().enumerate() {
            let stale = at >= self.config.caches.volumes || used(volume) < before;
            if stale && !self.leases.has(volume) {
                self.delete_volume(volume).await?;
            }
        }
        Ok(())
    }
}

/// What a daemon may fill of a volume: file systems and daemons want some room.
pub(super) fn bound(size: u64) -> u64 {
    size / 5 * 4
}

fn used(volume: &PersistentVolumeClaim) -> u64 {
    let marked = volume.annotations().get(USED).and_then(|used| used.parse().ok());
    // Made a moment ago, and by a process that was killed before it could say more.
    marked.unwrap_or_else(|| {
        let created = volume.metadata.creation_timestamp.as_ref();
        created.and_then(|created| u64::try_from(created.0.as_second()).ok()).unwrap_or_default()
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_owner_has_one_build_on_their_volume_and_the_next_waits_for_one_that_leaves() {
        let leases = Leases::new();
        let first = leases.hold("ann".to_owned()).await.unwrap();
        assert!(leases.hold("ann".to_owned()).await.is_none());
        assert!(leases.hold("bob".to_owned()).await.is_some());
        let lease = Lease { volume: PersistentVolumeClaim::default(), held: first };
        lease.leaves();
        let next = leases.hold("ann".to_owned());
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(lease);
        assert!(next.await.is_some());
    }
}
