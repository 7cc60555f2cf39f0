//! Removes what earlier processes of this installation left in the cluster.

use kube::{Api, ResourceExt as _, api::ListParams};

use super::{Inner, api::ask, names, owned::delete};
use crate::{AttemptName, EngineError};

impl Inner {
    /// Jobs of builds that don't live, proofs of other processes, and pods whose Job was taken from them.
    pub(super) async fn sweep(
        &self,
        is_live: &(dyn Fn(&AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        let jobs = self.leftovers(&self.cluster.jobs, "list Jobs", is_live).await?;
        let pods = self.leftovers(&self.cluster.pods, "list pods", is_live).await?;
        let orphans = pods.into_iter().filter(|pod| pod.owner_references().is_empty());
        let mut removed = 0;
        for job in jobs {
            delete(&self.cluster.jobs, &job.name_any(), &job.uid().unwrap_or_default()).await?;
            removed += 1;
        }
        for pod in orphans {
            delete(&self.cluster.pods, &pod.name_any(), &pod.uid().unwrap_or_default()).await?;
            removed += 1;
        }
        Ok(removed)
    }

    async fn leftovers<K>(
        &self,
        api: &Api<K>,
        what: &'static str,
        is_live: &(dyn Fn(&AttemptName) -> bool + Send + Sync),
    ) -> Result<Vec<K>, EngineError>
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let ours = ListParams::default().labels(&names::of_instance(self.config.instance));
        let mut found = ask(what, || api.list(&ours)).await?.items;
        found.retain(|object| match names::attempt_of(object.labels()) {
            Some(attempt) => !is_live(&attempt),
            None => object.labels().get(names::PROCESS) != Some(&self.process.to_string()),
        });
        Ok(found)
    }
}
