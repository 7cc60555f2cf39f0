//! The backend suite on standalone buildkitds: the newest, and the oldest that is accepted.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;

use kiln_backends::{BuildkitdBackend, BuildkitdConfig, conformance::Bench};

fn buildkitd(variable: &str) -> Bench {
    let address = backends_bench::needed(variable).parse().unwrap();
    backends_bench::bench(BuildkitdBackend::new(BuildkitdConfig::at(address)).unwrap())
}

mod newest {
    crate::backends_bench::backend_suite!(crate::buildkitd("KILN_TEST_BUILDKIT"));
}

mod floor {
    crate::backends_bench::backend_suite!(crate::buildkitd("KILN_TEST_BUILDKIT_FLOOR"));
}
