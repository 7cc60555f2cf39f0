//! What a user would run without the gateway: `buildctl` on the same daemon, with the same context and push.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use kiln_conformance_tests::{engine, registry};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Result, gateway::OWNER};

/// Where the scripts lie that the gateway puts into the context of an extended base.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/src/recipes/scripts");

/// A context in a folder.
pub(crate) struct Buildctl(TempDir);

impl Buildctl {
    /// The context that the gateway makes for `kind: python` on `base`, `repository` of the registry.
    pub(crate) async fn extending(repository: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let digest =
            registry::digest(repository, "latest").await.ok_or("build the bases: conformance-tests/bases/build")?;
        let config = registry::config(repository, "latest").await;
        let user = config["config"]["User"].as_str().unwrap_or_default();
        let dockerfile = format!(
            "FROM {}/{repository}@{digest}\nUSER 0:0\n\
             RUN --mount=type=bind,source=.kiln,target=/.kiln [\"/bin/sh\",\"/.kiln/extend.sh\",\"python\"]\nUSER {user}\n",
            engine("KILN_TEST_REGISTRY")
        );
        let kiln = folder.path().join(".kiln");
        fs::create_dir_all(kiln.join("requirements"))?;
        fs::write(folder.path().join("Dockerfile"), dockerfile)?;
        for script in fs::read_dir(SCRIPTS)? {
            let script = script?;
            fs::copy(script.path(), kiln.join(script.file_name()))?;
        }
        Ok(Self(folder))
    }

    /// Builds and pushes with this requirements file; returns how long it took until the digest was known.
    pub(crate) async fn build(&self, requirements: &str) -> Result<Duration> {
        fs::write(self.0.path().join(".kiln/requirements/requirements.txt"), requirements)?;
        build(self.0.path(), &format!("{}/{OWNER}:buildctl", engine("KILN_TEST_REGISTRY"))).await
    }
}

/// Builds and pushes the context of a folder; returns how long it took until the digest was known.
pub(crate) async fn build(context: &Path, image: &str) -> Result<Duration> {
    let folder = tempfile::tempdir()?;
    let metadata = folder.path().join("metadata.json");
    let began = Instant::now();
    let output = tokio::process::Command::new(PathBuf::from(engine("KILN_DEV_BIN")).join("buildctl"))
        .args(["--addr", &engine("KILN_TEST_BUILDKIT"), "build", "--progress=quiet", "--frontend=dockerfile.v0"])
        .args(["--local", &format!("context={}", context.display())])
        .args(["--local", &format!("dockerfile={}", context.display())])
        .args(["--output", &format!("type=image,name={image},push=true,oci-mediatypes=true,store=false")])
        .arg("--metadata-file")
        .arg(&metadata)
        .stdin(Stdio::null())
        .output()
        .await?;
    let metadata: Value = serde_json::from_str(&fs::read_to_string(&metadata).unwrap_or_default()).unwrap_or_default();
    let took = began.elapsed();
    if !output.status.success() || !metadata["containerimage.digest"].is_string() {
        return Err(format!("buildctl: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(took)
}
