//! Where the real engines are: what `deploy/dev/engines env` prints.

/// An engine to build with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// A standalone buildkitd.
    Buildkitd,
    /// A Docker Engine with its graph driver.
    Docker,
    /// A Docker Engine with the containerd image store.
    DockerContainerd,
}

impl Engine {
    /// Kiln's variable for it, and its address.
    ///
    /// # Panics
    /// When it isn't up.
    #[must_use]
    pub fn variable(self) -> (&'static str, String) {
        match self {
            Self::Buildkitd => ("KILN_ENGINE__BUILDKIT", engine("KILN_TEST_BUILDKIT")),
            Self::Docker => ("KILN_ENGINE__DOCKER", engine("KILN_TEST_DOCKER")),
            Self::DockerContainerd => ("KILN_ENGINE__DOCKER", engine("KILN_TEST_DOCKER_CONTAINERD")),
        }
    }
}

/// The value of a variable that `deploy/dev/engines env` prints.
///
/// # Panics
/// When it isn't set: a suite without its engine fails, it never passes by doing nothing.
#[must_use]
#[expect(clippy::panic, reason = "a missing engine fails the test with the command that brings it up")]
pub fn engine(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} isn't set: run `deploy/dev/engines up`, then `eval \"$(deploy/dev/engines env)\"`")
    })
}
