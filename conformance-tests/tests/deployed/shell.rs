//! A newcomer's shell on an engine of its own, and an engine that is empty afterwards whatever happens.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

use kiln_conformance_tests::{engine, kiln::program};
use tempfile::TempDir;

use crate::guide::{Guide, root};

/// How long a guide may take, seconds.
const TYPED_WITHIN: &str = "240";
/// How long it may take to clean up, seconds.
const CLEANED_WITHIN: &str = "60";

/// Takes from the engine whatever a guide, or a test that was killed, left there, but the images that it was given.
const EMPTY: &str = r#"
docker swarm leave --force
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes
docker network prune --force
docker network rm docker_gwbridge
docker volume prune --all --force
docker image ls --format '{{.Repository}}:{{.Tag}}' | grep -v '^kiln-test/' | xargs --no-run-if-empty docker image rm --force
docker image prune --force
"#;

/// A shell in the repository's root, with an engine to itself.
pub(crate) struct Shell {
    folder: TempDir,
    /// Locked: the guides have the same ports and names, and a second checkout may use the same engine.
    _alone: File,
}

impl Shell {
    /// Waits for the engine, and empties it.
    pub(crate) fn open() -> Self {
        let alone = File::create(Path::new(&engine("KILN_DEV_BIN")).with_file_name("swarm.lock")).unwrap();
        alone.lock().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("docker/cli-plugins")).unwrap();
        let compose = Path::new(&engine("KILN_DEV_BIN")).join("docker-compose");
        symlink(compose, folder.path().join("docker/cli-plugins/docker-compose")).unwrap();
        // The engine's ports are in its own network namespace.
        let inside = format!("nsenter --net={}", engine("KILN_TEST_SWARM_NAMESPACE"));
        let inside = if is_root() { inside } else { format!("sudo -n {inside}") };
        for program in ["curl", "ss"] {
            let shim = folder.path().join(program);
            let path = which(program);
            fs::write(&shim, format!("#!/bin/sh\nexec {inside} {path} \"$@\"\n")).unwrap();
            fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let shell = Self { folder, _alone: alone };
        shell.empty();
        shell
    }

    /// Types a guide, and returns what was printed under each of its headings.
    pub(crate) fn types(&self, guide: &Guide) -> BTreeMap<String, String> {
        let mut script = String::new();
        for section in guide.sections() {
            script.push_str(&format!("echo \"=== {}\"\n{}", section.heading, section.commands));
        }
        let output = self.bash("-euo pipefail", TYPED_WITHIN, &script);
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{said}\n{errors}\n{}", output.status, self.state());
        let sections = said.split("=== ").filter_map(|section| section.split_once('\n'));
        sections.map(|(heading, printed)| (heading.to_owned(), printed.to_owned())).collect()
    }

    /// What the services say, for whoever has to find out why a command failed.
    fn state(&self) -> String {
        let script = "docker ps --all; for id in $(docker ps --all --quiet); do docker logs --tail 20 $id 2>&1; done";
        String::from_utf8_lossy(&self.bash("-u", CLEANED_WITHIN, script).stdout).into_owned()
    }

    fn empty(&self) {
        self.bash("-u", CLEANED_WITHIN, EMPTY);
    }

    fn bash(&self, options: &str, within: &str, script: &str) -> Output {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let shims = [path(""), engine("KILN_DEV_BIN"), std::env::var("PATH").unwrap_or_default()].join(":");
        Command::new("timeout")
            .args(["--kill-after=10", within, "bash"])
            .args(options.split(' '))
            .args(["-c", script])
            .current_dir(root())
            .env_clear()
            .env("PATH", shims)
            .env("HOME", std::env::var("HOME").unwrap_or_default())
            .env("TMPDIR", path(""))
            .env("DOCKER_HOST", engine("KILN_TEST_SWARM"))
            .env("DOCKER_CONFIG", path("docker"))
            .env("KILN_PROGRAM", program())
            .env("REGISTRY_IMAGE", "kiln-test/registry")
            .env("BUILDKIT_IMAGE", "kiln-test/buildkit")
            .env("DIND_IMAGE", "kiln-test/docker")
            .env("BASE", "registry.local:5000/library/busybox")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.empty();
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// Where a program is.
fn which(program: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(|folder| Path::new(folder).join(program));
    let found = folders.into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is missing")).display().to_string()
}
