//! What builds take of the process that runs them, on every engine.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;

use kiln_backends::{
    BuildId, BuildkitdBackend, BuildkitdConfig, DockerBackend, DockerConfig, InstanceId,
    conformance::{Bench, a_large_context_takes_little_memory, builds_leave_no_descriptor},
};
use tokio::sync::Mutex;

/// The cases look at the whole process: one at a time.
static PROCESS: Mutex<()> = Mutex::const_new(());

fn benches() -> [Bench; 3] {
    let address = backends_bench::needed("KILN_TEST_BUILDKIT").parse().unwrap();
    let docker = |variable| {
        let host = backends_bench::needed(variable).parse().unwrap();
        DockerBackend::new(DockerConfig::at(host, InstanceId(BuildId::new().0))).unwrap()
    };
    [
        backends_bench::bench(BuildkitdBackend::new(BuildkitdConfig::at(address)).unwrap()),
        backends_bench::bench(docker("KILN_TEST_DOCKER")),
        backends_bench::bench(docker("KILN_TEST_DOCKER_CONTAINERD")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_leave_no_descriptor_behind() {
    let _alone = PROCESS.lock().await;
    for bench in benches() {
        builds_leave_no_descriptor(&bench).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_context() {
    let _alone = PROCESS.lock().await;
    for bench in benches() {
        a_large_context_takes_little_memory(&bench).await;
    }
}
