//! The backend suite on a standalone buildkitd.

use std::sync::Arc;

use kiln_backends::{
    BuildkitdBackend, BuildkitdConfig,
    conformance::{self, Bench},
};

#[tokio::test]
async fn a_build_is_pushed_by_digest() {
    let address = std::env::var("KILN_TEST_BUILDKIT").unwrap().parse().unwrap();
    let backend = BuildkitdBackend::new(BuildkitdConfig::at(address)).unwrap();
    let bench =
        Bench::new(Arc::new(backend), std::env::var("KILN_TEST_REGISTRY").unwrap(), "bases/busybox:latest".to_owned());
    conformance::a_build_is_pushed_by_digest(&bench).await;
}
