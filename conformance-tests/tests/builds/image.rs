//! An image in the registry: its configuration, its layers, and its program started.

use std::{
    io::{Read as _, Write as _},
    process::{Output, Stdio},
    time::Duration,
};

use bytes::Bytes;
use kiln_conformance_tests::{engine, registry};
use serde_json::Value;
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

/// Pulling and starting one image.
const STARTED_WITHIN: Duration = Duration::from_secs(120);

/// An image of the development registry.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) repository: String,
    pub(crate) tag: String,
}

impl Image {
    /// A base that `conformance-tests/bases/build` has pushed.
    pub(crate) fn base(name: &str) -> Self {
        Self { repository: format!("bases/{name}"), tag: "latest".to_owned() }
    }

    /// An image of this user's that isn't there yet.
    pub(crate) fn fresh(user: &str) -> Self {
        Self { repository: user.to_owned(), tag: Uuid::new_v4().simple().to_string() }
    }

    /// As requests name it where a target is meant: `user:tag`.
    pub(crate) fn target(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// As requests name it where a base is meant.
    pub(crate) fn reference(&self) -> String {
        let separator = if self.tag.starts_with("sha256:") { '@' } else { ':' };
        format!("{}/{}{separator}{}", engine("KILN_TEST_REGISTRY"), self.repository, self.tag)
    }

    /// The digest that its tag names, if there is one.
    pub(crate) async fn digest(&self) -> Option<String> {
        registry::digest(&self.repository, &self.tag).await
    }

    /// Its configuration: the part that a started program sees, and all of it.
    pub(crate) async fn config(&self) -> (Value, Value) {
        let whole = registry::config(&self.repository, &self.tag).await;
        (whole["config"].clone(), whole)
    }

    /// The digests of its layers.
    pub(crate) async fn layers(&self) -> Vec<String> {
        let (_, manifest) = registry::manifest(&self.repository, &self.tag).await.expect("the image is there");
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    }

    /// The tars of the layers that it has on top of `base`'s.
    pub(crate) async fn added_to(&self, base: &Self) -> Vec<Vec<u8>> {
        let (layers, below) = (self.layers().await, base.layers().await);
        let added = layers.strip_prefix(below.as_slice()).expect("the base's layers come first, as they are");
        let mut tars = Vec::new();
        for digest in added {
            tars.push(gunzip(registry::blob(&self.repository, digest).await).await);
        }
        tars
    }

    /// What `command` prints in a container of it, as its own user, without a network.
    pub(crate) async fn run(&self, command: &[&str]) -> Output {
        let image = self.reference();
        docker(&["pull", "--quiet", &image]).await;
        let run = ["run", "--rm", "--network", "none", "--entrypoint", command[0], &image];
        let output = docker_output(&[&run, &command[1..]].concat()).await;
        docker(&["rmi", &image]).await;
        output
    }

    /// The same of a command that succeeds.
    pub(crate) async fn prints(&self, command: &[&str]) -> String {
        let output = self.run(command).await;
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Leaves its layers with the Docker Engine, so that images on top of it are pulled fast.
    pub(crate) async fn keep(&self) {
        docker(&["pull", "--quiet", &self.reference()]).await;
    }

    /// Copies `from` to here, within the registry; `change` may rewrite its configuration.
    pub(crate) async fn copy_of(from: &Self, to: Self, change: impl FnOnce(&mut Value)) -> Self {
        let (_, mut manifest) = registry::manifest(&from.repository, &from.tag).await.expect("the image is there");
        for layer in manifest["layers"].as_array().unwrap() {
            registry::mount(&from.repository, &to.repository, layer["digest"].as_str().unwrap()).await;
        }
        let mut config = registry::config(&from.repository, &from.tag).await;
        change(&mut config);
        let config = serde_json::to_vec(&config).unwrap();
        manifest["config"]["size"] = config.len().into();
        manifest["config"]["digest"] = registry::upload(&to.repository, config).await.into();
        registry::put_manifest(&to.repository, &to.tag, &manifest).await;
        to
    }
}

async fn docker(arguments: &[&str]) {
    let output = docker_output(arguments).await;
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn docker_output(arguments: &[&str]) -> Output {
    let mut docker = Command::new(format!("{}/docker", engine("KILN_DEV_BIN")));
    let docker = docker.env("DOCKER_HOST", engine("KILN_TEST_DOCKER")).args(arguments).kill_on_drop(true).output();
    timeout(STARTED_WITHIN, docker).await.expect("docker ends in time").expect("docker runs")
}

/// By the program, which needs its input written while its output is read.
async fn gunzip(bytes: Bytes) -> Vec<u8> {
    let unpacked = tokio::task::spawn_blocking(move || {
        let mut gzip = std::process::Command::new("gzip");
        let mut gzip = gzip.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdin = gzip.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let mut tar = Vec::new();
        gzip.stdout.take().unwrap().read_to_end(&mut tar)?;
        writer.join().unwrap()?;
        assert!(gzip.wait()?.success(), "a layer isn't gzip");
        Ok::<_, std::io::Error>(tar)
    });
    unpacked.await.unwrap().unwrap()
}
