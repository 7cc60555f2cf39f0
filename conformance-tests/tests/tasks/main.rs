//! The tasks of `deploy/Taskfile.yml`, run with the real `task`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod builds;
mod daemons;
mod images;

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use kiln_conformance_tests::{Engine, Kiln, Launch, engine, kiln::base};
use tokio::{process::Command, time::timeout};

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(120);

/// A task's exit status and all that it printed.
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// What a task printed that went well.
    #[track_caller]
    fn well(self) -> String {
        assert_eq!(self.status, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// What a task said that didn't.
    #[track_caller]
    fn badly(self) -> String {
        assert!(self.status.is_some_and(|status| status != 0), "{}{}", self.out, self.err);
        self.out + &self.err
    }
}

/// `task`, with the gateway and token of a user where people keep them.
fn task(kiln: &Kiln, token: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let home = kiln.folder();
    std::fs::write(home.join(".wskprops"), format!("AUTH={token}\nAPIHOST={}\n", kiln.url)).unwrap();
    let mut command = Command::new(format!("{}/task/bin/task", engine("KILN_DEV_BIN")));
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    command.arg("--dir").arg(project).args(arguments);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home);
    command.env("ADMIN_API_URL", format!("{}/system", kiln.url)).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn ran(command: &mut Command) -> Ran {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn run(kiln: &Kiln, user: &str, arguments: &[impl AsRef<OsStr>]) -> Ran {
    ran(&mut task(kiln, kiln.token(user), arguments)).await
}

/// A gateway for this user, whose steps reach the package registries.
async fn gateway(user: &str) -> Kiln {
    let launch = Launch::on(Engine::Buildkitd).user(user);
    launch.set("KILN_STEPS__CA_FILE", "/etc/ssl/certs/ca-certificates.crt").start().await
}

/// What sends a build of this target; `file` is its variable REQUIREMENTS, if it has one.
fn send(target: &str, file: Option<String>) -> Vec<String> {
    let (source, target) = (format!("SOURCE={}", base("python")), format!("TARGET={target}"));
    let arguments = ["builder:send".to_owned(), source, target, "KIND=python".to_owned()];
    arguments.into_iter().chain(file).collect()
}

#[tokio::test]
async fn without_a_token_that_counts_every_task_fails() {
    let kiln = gateway("ann").await;
    let asked = [
        &["builder:send", "SOURCE=x", "TARGET=ann:x", "KIND=python"][..],
        &["builder:clean"],
        &["builder:cleanjobs"],
        &["builder:logs"],
        &["builder:list-catalogs"],
        &["builder:list-images", "CATALOG=ann"],
        &["builder:get-image", "IMAGE=ann:x"],
        &["builder:delete-image", "IMAGE=ann:x"],
    ];
    for arguments in asked {
        let said = ran(&mut task(&kiln, "0000:1111", arguments)).await.badly();
        assert!(said.contains("401"), "{arguments:?}: {said}");
    }
}
