//! `builder:updatetoml`: what operators give to the daemons of a cluster.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use kiln_conformance_tests::{Kiln, kiln::program};
use tokio::process::Command;

use crate::{gateway, ran, task};

/// A command that finds this `kiln`, and for kubectl a program that fails and leaves a trace.
fn update(kiln: &Kiln, arguments: &[&str]) -> Command {
    let programs = kiln.folder().join("bin");
    std::fs::create_dir_all(&programs).unwrap();
    let kubectl = programs.join("kubectl");
    std::fs::write(&kubectl, "#!/bin/sh\ncat >/dev/null\ntouch \"$0.called\"\nexit 3\n").unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let own = Path::new(&program()).parent().unwrap().display().to_string();
    let mut command = task(kiln, kiln.token("operator"), arguments);
    command.env("PATH", format!("{}:{own}:{path}", programs.display()));
    command
}

#[tokio::test]
async fn what_the_daemon_would_pass_over_never_reaches_the_cluster() {
    let kiln = gateway("operator").await;
    let called = kiln.folder().join("bin/kubectl.called");
    let file = kiln.folder().join("buildkitd.toml");
    std::fs::write(&file, "[worker.oci]\nmaxUsedSpce = \"20GB\"\n").unwrap();
    let conf = format!("CONF={}", file.display());
    let said = ran(&mut update(&kiln, &["builder:updatetoml", &conf])).await.badly();
    assert!(said.contains("buildkitd has no worker.oci.maxUsedSpce"), "{said}");
    assert!(!called.exists());
    // What is shipped gets as far as the cluster, whose refusal is the task's.
    ran(&mut update(&kiln, &["builder:updatetoml"])).await.badly();
    assert!(called.exists());
}
