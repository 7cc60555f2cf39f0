//! `kiln login`, `logout` and `completion`: what is kept of a gateway and a token, and for whom.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{Output, Stdio},
};

use kiln_conformance_tests::{Kiln, kiln::program, wait::until};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use crate::{PATIENCE, idle};

/// Somebody's home, with nothing in it, and no variable of theirs set.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(".config/kiln/profiles.toml")
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.0.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str], typed: &str) -> (Option<i32>, String, String) {
        let mut child = self.command(program()).args(arguments).spawn().unwrap();
        // One that reads nothing may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes()).await;
        let Output { status, stdout, stderr } = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    async fn logged_in(kiln: &Kiln, user: &str) -> Self {
        let home = Self::new();
        let login = home.run(&["login", "--url", &kiln.url], &format!("{}\n", kiln.token(user))).await;
        assert_eq!(login, (Some(0), format!("{user} at {}\n", kiln.url), String::new()));
        home
    }
}

#[tokio::test]
async fn after_a_login_no_verb_needs_to_be_told_where_or_who() {
    let kiln = idle().await;
    let home = Home::logged_in(&kiln, "devel").await;
    assert_eq!(home.run(&["whoami"], "").await, (Some(0), "devel\n".to_owned(), String::new()));
    let modes = [home.file(), home.file().parent().unwrap().to_owned()].map(|path| path.metadata().unwrap().mode());
    assert_eq!(modes.map(|mode| mode & 0o777), [0o600, 0o700]);

    // A second profile beside the first, which an option or a variable overrides.
    let other = kiln.token("other").to_owned();
    let named = ["login", "--profile", "second", "--url", kiln.url.as_str(), "--json"];
    let (status, out, _) = home.run(&named, &other).await;
    assert_eq!((status, out.contains("\"user\":\"other\"")), (Some(0), true), "{out}");
    for (arguments, user) in [
        (&["whoami"][..], "devel\n"),
        (&["whoami", "--profile", "second"], "other\n"),
        (&["whoami", "--token", &other], "other\n"),
    ] {
        assert_eq!(home.run(arguments, "").await, (Some(0), user.to_owned(), String::new()), "{arguments:?}");
    }

    assert_eq!(home.run(&["logout"], "").await, (Some(0), String::new(), String::new()));
    let (status, _, err) = home.run(&["whoami", "--url", &kiln.url], "").await;
    assert_eq!((status, err.contains("kiln login")), (Some(2), true), "{err}");
    let (status, _, err) = home.run(&["logout"], "").await;
    assert_eq!((status, err.contains("no profile \"default\"")), (Some(2), true), "{err}");
    assert_eq!(home.run(&["whoami", "--profile", "second"], "").await.0, Some(0));
}

#[tokio::test]
async fn a_token_that_the_gateway_refuses_is_not_kept_and_none_goes_to_another_gateway() {
    let (kiln, other) = (idle().await, idle().await);
    let home = Home::logged_in(&kiln, "devel").await;
    let kept = std::fs::read(home.file()).unwrap();
    for (typed, expected) in [("a:b\n", 77), ("\n", 2), ("", 2), ("a\u{1}b\n", 2)] {
        let (status, out, err) = home.run(&["login", "--url", &kiln.url], typed).await;
        assert_eq!((status, out.as_str()), (Some(expected), ""), "{typed:?}: {err}");
    }
    let (status, ..) = home.run(&["login", "--url", "http://127.0.0.1:1"], "a:b\n").await;
    assert_eq!(status, Some(75));
    assert_eq!(std::fs::read(home.file()).unwrap(), kept);

    let (status, _, err) = home.run(&["whoami", "--url", &other.url], "").await;
    assert_eq!((status, err.contains("no token for")), (Some(2), true), "{err}");
}

#[tokio::test]
async fn a_profile_that_others_may_read_or_that_is_broken_is_refused_without_showing_it() {
    let kiln = idle().await;
    let home = Home::logged_in(&kiln, "devel").await;
    std::fs::set_permissions(home.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let (status, _, err) = home.run(&["whoami"], "").await;
    assert_eq!((status, err.contains("chmod 600")), (Some(2), true), "{err}");

    std::fs::set_permissions(home.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(home.file(), format!("[default]\ntoken = {}\n", kiln.token("devel"))).unwrap();
    let (status, _, err) = home.run(&["whoami"], "").await;
    assert_eq!(status, Some(2), "{err}");
    assert!(err.contains("profiles.toml") && !err.contains(kiln.token("devel")), "{err}");
}

#[tokio::test]
async fn a_terminal_asks_for_the_token_and_does_not_show_it() {
    let kiln = idle().await;
    let home = Home::new();
    let login = format!("{} login --url {}", program().display(), kiln.url);
    let mut terminal = home.command("script").args(["-qec", &login, "/dev/null"]).spawn().unwrap();
    let (mut typed, mut shown) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let shown = timeout(PATIENCE, async {
        let mut seen = Vec::new();
        while !seen.ends_with(b": ") {
            seen.push(shown.read_u8().await.unwrap());
        }
        echo_is_off(terminal.id().unwrap()).await;
        typed.write_all(format!("{}\n", kiln.token("devel")).as_bytes()).await.unwrap();
        shown.read_to_end(&mut seen).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    let shown = shown.await.unwrap();
    assert!(timeout(PATIENCE, terminal.wait()).await.unwrap().unwrap().success(), "{shown}");
    assert!(
        shown.contains("Token for") && shown.contains("devel at") && !shown.contains(kiln.token("devel")),
        "{shown}"
    );
    assert_eq!(home.run(&["whoami"], "").await, (Some(0), "devel\n".to_owned(), String::new()));
}

/// Waits until the terminal that `script` made no longer shows what is typed.
async fn echo_is_off(script: u32) {
    let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
    let terminal = std::fs::read_link(format!("/proc/{}/fd/0", children.trim())).unwrap();
    let is_off = async || {
        let settings = Command::new("stty").arg("-F").arg(&terminal).arg("-a").output().await.unwrap();
        String::from_utf8_lossy(&settings.stdout).contains("-echo ").then_some(())
    };
    until(PATIENCE, "what is typed isn't shown", is_off).await;
}

#[tokio::test]
async fn every_shell_has_its_completion() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (status, out, err) = home.run(&["completion", shell], "").await;
        assert_eq!((status, err.as_str()), (Some(0), ""), "{shell}");
        assert!(out.contains("logout") && out.contains("images"), "{shell}: {out}");
    }
    assert_eq!(home.run(&["completion", "sh"], "").await.0, Some(2));
    // That bash takes it, and offers a verb.
    let ask = format!(
        "source <({} completion bash); COMP_WORDS=(kiln who); COMP_CWORD=1; _kiln kiln who kiln; echo \"${{COMPREPLY[@]}}\"",
        program().display()
    );
    let output = timeout(PATIENCE, home.command("bash").args(["-c", &ask]).output()).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "whoami\n");
}
