//! The backend suite on Docker Engines: with the graph driver's store and with containerd's.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;

use kiln_backends::{BuildId, DockerBackend, DockerConfig, InstanceId, conformance::Bench};

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
