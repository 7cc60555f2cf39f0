//! Namespaces of tests' own, and what of a build is in one.

use std::time::Duration;

use kiln_backends::{
    BuildId, KubernetesConfig,
    kubernetes::{Profile, Reach},
};

use super::{config, kubectl};

/// A namespace of a test's own.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) async fn new() -> Self {
        let name = format!("kiln-{}", BuildId::new().0.simple());
        kubectl(&["create", "namespace", &name]).await;
        kubectl(&["--namespace", &name, "wait", "--for=create", "--timeout=30s", "serviceaccount/default"]).await;
        Self(name)
    }

    pub(crate) fn config(&self) -> KubernetesConfig {
        KubernetesConfig { namespace: Some(self.0.clone()), ..userns() }
    }

    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.0], arguments].concat()).await
    }

    pub(crate) async fn delete(self) {
        kubectl(&["delete", "namespace", "--wait=false", &self.0]).await;
    }
}

pub(crate) fn userns() -> KubernetesConfig {
    KubernetesConfig { start_deadline: Duration::from_secs(20), ..config(Some(Profile::Userns), Reach::PodIp) }
}

/// Selects what belongs to a build.
pub(crate) fn of(build: BuildId) -> String {
    format!("--selector=kiln/build={build}")
}

/// Waits until the cluster has nothing of the build any more.
pub(crate) async fn nothing_is_left(namespace: &str, build: BuildId) {
    let gone = async {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            let what = ["--namespace", namespace, "get", "jobs,pods,secrets", "--output=name", &of(build)];
            if kubectl(&what).await.is_empty() {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(45), gone).await.is_ok(), "something of {build} is left");
}
