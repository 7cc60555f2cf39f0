//! An image that a client wants: looked up in the registry, pulled by its digest, started.

use std::time::Duration;

use kiln_conformance_tests::{engine, registry};
use serde_json::Value;
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

/// Pulling and starting one image.
const STARTED_WITHIN: Duration = Duration::from_secs(120);

/// An image that isn't there yet.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    repository: &'static str,
    tag: String,
}

impl Image {
    pub(crate) fn new() -> Self {
        Self { repository: "fns/greeter", tag: Uuid::new_v4().simple().to_string() }
    }

    /// As clients name it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}:{}", engine("KILN_TEST_REGISTRY"), self.repository, self.tag)
    }

    /// The digest that its tag names, if it was pushed.
    pub(crate) async fn digest(&self) -> Option<String> {
        registry::digest(self.repository, &self.tag).await
    }

    /// Its configuration.
    pub(crate) async fn config(&self) -> Value {
        registry::config(self.repository, &self.tag).await
    }

    /// What `command` prints in a container of what its digest names.
    pub(crate) async fn prints(&self, command: &[&str]) -> String {
        let digest = self.digest().await.expect("the image is there");
        let image = format!("{}/{}@{digest}", engine("KILN_TEST_REGISTRY"), self.repository);
        let printed = docker(&[&["run", "--rm", "--quiet", "--network", "none", &image], command].concat()).await;
        docker(&["rmi", &image]).await;
        printed
    }
}

async fn docker(arguments: &[&str]) -> String {
    let mut docker = Command::new(format!("{}/docker", engine("KILN_DEV_BIN")));
    let docker = docker.env("DOCKER_HOST", engine("KILN_TEST_DOCKER")).args(arguments).kill_on_drop(true).output();
    let output = timeout(STARTED_WITHIN, docker).await.expect("docker ends in time").expect("docker runs");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
