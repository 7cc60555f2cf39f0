//! The backend suite on Docker Engines: with the graph driver's store and with containerd's.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;

use kiln_backends::{BuildBackend as _, BuildId, DockerBackend, DockerConfig, InstanceId, conformance::Bench};

fn docker(variable: &str) -> Bench {
    let host = backends_bench::needed(variable).parse().unwrap();
    backends_bench::bench(DockerBackend::new(DockerConfig::at(host, InstanceId(BuildId::new().0))).unwrap())
}

mod graph_driver {
    crate::backends_bench::backend_suite!(crate::docker("KILN_TEST_DOCKER"));
}

mod containerd {
    crate::backends_bench::backend_suite!(crate::docker("KILN_TEST_DOCKER_CONTAINERD"));
}

/// An empty image under `name`, as a build that was cut off leaves one.
async fn leave(host: &str, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("empty.tar");
    // Two blocks of zeros end an archive.
    std::fs::write(&archive, [0; 1024]).unwrap();
    let docker = std::path::Path::new(&backends_bench::needed("KILN_DEV_BIN")).join("docker");
    let imported =
        tokio::process::Command::new(docker).args(["--host", host, "import"]).arg(archive).arg(name).output().await;
    assert!(imported.is_ok_and(|output| output.status.success()), "{name} on {host}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_removes_this_instances_leftovers_and_nothing_else() {
    let host = backends_bench::needed("KILN_TEST_DOCKER");
    let (own, other) = (InstanceId(BuildId::new().0), InstanceId(BuildId::new().0));
    let (dead, live) = (BuildId::new(), BuildId::new());
    for (instance, build) in [(own, dead), (own, live), (other, dead)] {
        leave(&host, &format!("kiln/{}:{}-1", instance.0.simple(), build.0.simple())).await;
    }
    let backend = |instance| DockerBackend::new(DockerConfig::at(host.parse().unwrap(), instance)).unwrap();
    assert_eq!(backend(own).sweep(&|attempt| attempt.build == live).await.unwrap(), 1);
    assert_eq!(backend(own).sweep(&|_| false).await.unwrap(), 1);
    assert_eq!(backend(other).sweep(&|_| false).await.unwrap(), 1);
}
