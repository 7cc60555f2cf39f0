//! Finds out by trying how daemons can run in a cluster without being root on its nodes.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Inner,
    config::{Profile, SharedCredential},
    manifest::{Plan, Purpose},
    names,
    owned::OwnedJob,
    resources,
    trouble::Trouble,
};
use crate::{Capabilities, EngineError, Limits, StepLimits, StepNetwork, buildkit::probe};

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) profile: Profile,
    pub(super) capabilities: Capabilities,
    pub(super) at: Instant,
}

impl Inner {
    /// Tries the configured profile, or the safer one first.
    pub(super) async fn prove(&self) -> Result<Proof, EngineError> {
        let profiles = match self.config.profile {
            Some(profile) => vec![profile],
            None => vec![Profile::Userns, Profile::Rootless],
        };
        let mut reasons = Vec::new();
        for profile in profiles {
            let tried = match profile {
                Profile::Userns => Box::pin(self.canary()).await,
                Profile::Rootless => self.admit_rootless(),
            };
            let tried = match tried {
                Ok(()) => Box::pin(self.try_daemon(profile)).await,
                Err(error) => Err(error),
            };
            match tried {
                Ok(capabilities) => return Ok(Proof { profile, capabilities, at: Instant::now() }),
                // Tells of a moment or of the cluster, not of the profile.
                Err(error @ EngineError::Unreachable { .. }) => return Err(error),
                Err(EngineError::Pod(trouble)) if !trouble.is_of_pods_like_it() => return Err(trouble.into()),
                Err(error) => reasons.push(format!("{profile}: {error}")),
            }
        }
        Err(EngineError::Unfit(reasons.join("; ")))
    }

    /// Without a user namespace a privileged pod is root on its node: so an unprivileged one looks first.
    async fn canary(&self) -> Result<(), EngineError> {
        let plan = self.proof_plan(Purpose::Canary);
        let owned = OwnedJob::create(&self.cluster, &plan, &self.config.pods, |_| None).await?;
        let until = Instant::now() + self.config.start_deadline;
        let started = async {
            tokio::select! {
                words = owned.ended() => words,
                started = owned.running(until, None) => match started {
                    Ok(_) => owned.ended().await,
                    // It may have ended before it was seen to run.
                    Err(Trouble::Exited { status: 0, words }) => Ok(words),
                    Err(trouble) => Err(trouble),
                },
            }
        };
        let within = self.config.start_deadline + Duration::from_secs(10);
        let words = tokio::time::timeout(within, started).await;
        owned.remove().await;
        let words = words.map_err(|_| Trouble::Unstarted("the canary didn't end".to_owned()))??;
        if is_mapped(&words) {
            return Ok(());
        }
        Err(EngineError::Unfit(
            "pods with hostUsers: false have no user namespace of their own there; it takes Kubernetes 1.33, \
             containerd 2 or CRI-O 1.25, and a file system with idmapped mounts"
                .to_owned(),
        ))
    }

    /// A rootless daemon's steps can read its memory, and with it what its session was told.
    pub(super) fn admit_rootless(&self) -> Result<(), EngineError> {
        if self.config.shared_credential == SharedCredential::Guarded {
            return Err(EngineError::Unfit(
                "its steps could read the registry's push credential, which is valid for all owners; use nodes with \
                 user namespaces, or set engine.kubernetes.accept_shared_credential = true"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Starts a daemon as builds have it, and has it prove what every engine must.
    async fn try_daemon(&self, profile: Profile) -> Result<Capabilities, EngineError> {
        let plan = self.proof_plan(Purpose::Daemon(profile));
        let daemon = self.daemon(&plan, profile).await?;
        let until = Instant::now() + self.config.start_deadline;
        let proved = async {
            let (transport, connection) = self.reached(&daemon, until, None).await?;
            probe::probe_on(&transport, connection).await
        };
        let proved = tokio::select! {
            proved = proved => proved,
            Err(trouble) = daemon.owned.ended() => Err(trouble.into()),
        };
        daemon.owned.remove().await;
        let mut capabilities = proved?;
        capabilities.engine = "kubernetes".to_owned();
        capabilities.version = format!("{} ({profile})", capabilities.version);
        capabilities.keeps_cache = self.config.caches.volumes > 0;
        // The pod is bounded, daemon and all. Nothing in a pod's spec bounds the number of processes.
        capabilities.step_limits = StepLimits { memory: true, cpu: true, processes: false };
        if capabilities.step_network == StepNetwork::Host {
            let text = "build steps use their pod's network: a NetworkPolicy decides what they reach";
            capabilities.warnings.push(text.to_owned());
        }
        if profile == Profile::Rootless {
            capabilities
                .warnings
                .push("build steps can read their daemon's memory; nodes with user namespaces spare that".to_owned());
        }
        Ok(capabilities)
    }

    fn proof_plan(&self, purpose: Purpose) -> Plan {
        let run = Uuid::new_v4();
        let deadline = self.config.start_deadline * 2;
        let unbounded =
            Limits { deadline, memory: None, cpu_millis: None, processes: None, storage: None, step_deadline: None };
        Plan {
            name: names::of_proof(self.config.instance, run),
            labels: names::proof_labels(self.config.instance, self.process),
            run,
            purpose,
            resources: resources::requirements(&unbounded, &self.config.pods.requests),
            cache: None,
            deadline,
        }
    }
}

/// Whether root in this map is nobody on the node: `inside outside count`, a line a range.
fn is_mapped(map: &str) -> bool {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let mut root = ranges.filter(|(inside, _)| *inside == 0).peekable();
    root.peek().is_some() && root.all(|(_, outside)| outside != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_tells_whether_root_is_nobody_outside() {
        for (map, expected) in [
            ("         0 1879048192      65536\n", true),
            ("         0          0 4294967295\n", false),
            ("0 0 1\n1 100000 65535\n", false),
            ("1 100000 65535\n", false),
            ("0 4294967295 1", true),
            ("", false),
            ("garbage\n", false),
        ] {
            assert_eq!(is_mapped(map), expected, "{map:?}");
        }
    }
}
