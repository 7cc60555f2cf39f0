//! The program as its user sees it: exit statuses, lines on a pipe, what it says on standard error.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use kiln_conformance_tests::{Engine, Kiln, Launch, kiln::program};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{authority::online, image::Image};

/// The longest that a verb may take here: a build of the `python` base.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A command line of somebody who talks to a gateway.
struct User {
    url: String,
    token: String,
    files: TempDir,
}

impl User {
    fn of(kiln: &Kiln, name: &str) -> Self {
        Self { url: kiln.url.clone(), token: kiln.token(name).to_owned(), files: tempfile::tempdir().unwrap() }
    }

    /// A file in the folder where the commands run.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.files.path().join(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = kiln(arguments);
        command.current_dir(self.files.path()).env("KILN_URL", &self.url).env("KILN_TOKEN", &self.token);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        Said::by(self.command(arguments)).await
    }
}

/// The program with nothing in its environment but where programs are.
fn kiln(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// How a command ended.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    async fn by(mut command: Command) -> Self {
        Self::at_the_end_of(command.spawn().unwrap()).await
    }

    async fn at_the_end_of(child: Child) -> Self {
        let Output { status, stdout, stderr } =
            timeout(ENDS_WITHIN, child.wait_with_output()).await.expect("kiln ends in time").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: status.code(), out: text(stdout), err: text(stderr) }
    }
}

#[tokio::test]
async fn a_build_is_followed_in_plain_lines_and_found_again() {
    let kiln = online(Launch::on(Engine::Buildkitd).user("devel")).start().await;
    let (user, image) = (User::of(&kiln, "devel"), Image::fresh("devel"));
    user.write("requirements.txt", "humanize==4.9.0\n");
    let (base, target) = (Image::base("python").reference(), image.target());
    let said = user.run(&["build", "--source", &base, "--target", &target, "requirements.txt"]).await;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains("Successfully installed humanize-4.9.0"), "{said:?}");
    assert!(!said.out.contains(['\u{1b}', '\r']), "plain lines: {:?}", said.out);
    let result = format!("{} {}", image.reference(), image.digest().await.unwrap());
    assert_eq!(said.out.lines().last(), Some(result.as_str()));
    assert_eq!(said.err, "");

    let newest = &kiln.client("devel").get("/v1/builds").await.json()["builds"][0];
    let id = newest["id"].as_str().unwrap();
    let status = user.run(&["status", id]).await;
    assert_eq!((status.status, status.out.as_str()), (Some(0), format!("{result}\n").as_str()));
    let (logs, followed) = (user.run(&["logs", id]).await, user.run(&["logs", "-f", id]).await);
    assert_eq!((logs.status, followed.status), (Some(0), Some(0)));
    assert_eq!(format!("{}{result}\n", logs.out), said.out, "the log is what was followed");
    assert_eq!(followed.out, said.out);

    user.write("requirements.txt", "humanize==999.0\n");
    let said = user.run(&["build", "--source", &base, "--target", &target, "requirements.txt"]).await;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.out.contains("No matching distribution found for humanize==999.0"), "{said:?}");
    assert!(said.err.starts_with("failed: StepFailed: the installation ended with status 1: "), "{said:?}");
    let newest = &kiln.client("devel").get("/v1/builds").await.json()["builds"][0];
    let status = user.run(&["status", newest["id"].as_str().unwrap()]).await;
    assert_eq!((status.status, status.err), (Some(1), said.err));
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_told_by_its_status_and_one_sentence() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").user("ada").start().await;
    let (user, ada) = (User::of(&kiln, "devel"), User::of(&kiln, "ada"));
    user.write("requirements.txt", "humanize\n");
    user.write("unknown.txt", "humanize\n");
    let base = Image::base("python").reference();
    let build = |target: &'static str, rest: &[&'static str]| {
        [&["build", "-s", base.as_str(), "-t", target], rest].concat().into_iter().map(str::to_owned).collect()
    };
    let nobody = "00000000-0000-4000-8000-000000000000:nobody";
    let cases: Vec<(Vec<String>, i32, &str)> = vec![
        (build("devel:x", &["missing.txt"]), 2, "missing.txt: No such file or directory"),
        (build("devel:x", &["unknown.txt"]), 2, "\"unknown.txt\" tells no kind: pass --kind"),
        (build("devel:x", &["unknown.txt", "--kind", "rust"]), 2, "kind"),
        (build("devel:x", &["--no-such-option"]), 2, "--no-such-option"),
        (build("devel:UPPER:x", &[]), 2, "target"),
        (build("devel:x", &["requirements.txt", "--token", nobody]), 77, "401"),
        (build("devel:x", &["requirements.txt", "--url", "http://127.0.0.1:1"]), 75, "127.0.0.1:1"),
        (vec!["status".to_owned(), "no-such-build".to_owned()], 2, "no such build"),
        (vec!["logs".to_owned(), "-f".to_owned(), "no-such-build".to_owned()], 2, "no such build"),
    ];
    for (arguments, status, sentence) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = user.run(&arguments).await;
        assert_eq!(said.status, Some(status), "{arguments:?}: {said:?}");
        assert!(said.err.contains(sentence), "{arguments:?}: {said:?}");
        assert_eq!(said.out, "", "{arguments:?}");
    }
    let mut without_token = user.command(&["status", "x"]);
    without_token.env_remove("KILN_TOKEN");
    let said = Said::by(without_token).await;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.err.starts_with("kiln: no token for ") && said.err.lines().count() == 1, "{said:?}");
    // Another's build is none at all.
    let id = kiln.client("devel").start(&base, &Image::fresh("devel").target(), "python", None).await;
    let said = ada.run(&["status", &id]).await;
    assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{said:?}");
    assert!(said.err.contains("no such build"), "{said:?}");
    kiln.client("devel").ended(&id).await;
}

#[tokio::test]
async fn ctrl_c_detaches_and_the_build_goes_on() {
    let kiln = online(Launch::on(Engine::Buildkitd).user("devel")).start().await;
    let (user, image) = (User::of(&kiln, "devel"), Image::fresh("devel"));
    user.write("requirements.txt", "humanize==4.9.0\n");
    let base = Image::base("python").reference();
    let mut child = user.command(&["build", "-s", &base, "-t", &image.target(), "requirements.txt"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    timeout(ENDS_WITHIN, stdout.read_line(&mut line)).await.expect("a line").unwrap();
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let said = Said::at_the_end_of(child).await;
    assert_eq!(said.status, Some(75), "{said:?}");
    let sentence = "detached; the build goes on. Come back with: kiln logs -f ";
    let id = said.err.strip_prefix(sentence).unwrap_or_else(|| panic!("{said:?}")).trim_end();

    let followed = user.run(&["logs", "-f", id]).await;
    assert_eq!(followed.status, Some(0), "{followed:?}");
    assert!(followed.out.starts_with(&line), "from its beginning: {followed:?}");
    assert_eq!(
        followed.out.lines().last().unwrap(),
        format!("{} {}", image.reference(), image.digest().await.unwrap())
    );
}

#[tokio::test]
async fn a_detached_build_prints_its_id_and_is_waited_for_later() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let (user, image) = (User::of(&kiln, "devel"), Image::fresh("devel"));
    let base = Image::base("no-shell").reference();
    let said = user.run(&["build", "-s", &base, "-t", &image.target(), "--detach"]).await;
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{said:?}");
    let followed = user.run(&["logs", "-f", said.out.trim_end()]).await;
    assert_eq!(followed.status, Some(0), "{followed:?}");
}

#[tokio::test]
async fn a_reader_who_leaves_early_changes_neither_status_nor_build() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let (user, image) = (User::of(&kiln, "devel"), Image::fresh("devel"));
    let base = Image::base("no-shell").reference();
    let mut child = user.command(&["build", "-s", &base, "-t", &image.target()]).spawn().unwrap();
    drop(child.stdout.take());
    let said = Said::at_the_end_of(child).await;
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(image.digest().await.is_some());
}

#[tokio::test]
async fn a_user_is_added_once_and_their_token_is_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.toml");
    let add = |arguments: &[&str]| {
        let mut command = kiln(&[&["user", "add"], arguments].concat());
        command.env("KILN_IDENTITY__USERS_FILE", &file);
        Said::by(command)
    };
    let added = add(&["devel"]).await;
    assert_eq!((added.status, added.err.as_str()), (Some(0), ""), "{added:?}");
    let (uuid, key) = added.out.trim_end().split_once(':').expect("uuid:key");
    assert_eq!(uuid.len(), 36);
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains(uuid) && !kept.contains(key), "the key itself is stored nowhere");

    let again = add(&["devel"]).await;
    assert_eq!((again.status, again.out.as_str()), (Some(1), ""), "{again:?}");
    assert!(again.err.contains("devel") && again.err.contains("--rotate"), "it says what to do: {again:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    let rotated = add(&["devel", "--rotate"]).await;
    assert_eq!(rotated.status, Some(0), "{rotated:?}");
    assert_ne!(rotated.out, added.out);
    for name in ["De Vel", "../x", ""] {
        let said = add(&[name]).await;
        assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{name:?}: {said:?}");
    }
}

#[tokio::test]
async fn the_ledger_is_copied_while_the_gateway_runs_and_never_made_nor_overwritten() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let (client, image) = (kiln.client("devel"), Image::fresh("devel"));
    let id = client.start(&Image::base("no-shell").reference(), &image.target(), "python", None).await;
    client.ended(&id).await;
    let backup = |data: &Path, to: &Path| {
        let mut command = kiln_ledger_backup(to);
        command.env("KILN_DATA_DIR", data);
        Said::by(command)
    };
    let (data, folder) = (kiln.folder().join("data"), tempfile::tempdir().unwrap());

    // What is restored from the copy serves the build.
    let copy = folder.path().join("ledger.sqlite");
    let said = backup(&data, &copy).await;
    assert_eq!(said.status, Some(0), "{said:?}");
    let token = kiln.token("devel").to_owned();
    let users = kiln.folder().join("users.toml").display().to_string();
    let restored = Launch::on(Engine::Buildkitd)
        .set("KILN_DATA_DIR", folder.path().display().to_string())
        .set("KILN_IDENTITY__USERS_FILE", users);
    let restored = restored.start().await;
    let build = restored.anonymous().with_token(&token).build(&id).await;
    assert_eq!((&build["id"], &build["state"]), (&id.into(), &"succeeded".into()), "{build:#}");
    drop(restored);

    let before = std::fs::read(&copy).unwrap();
    let said = backup(&data, &copy).await;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.err.contains(&copy.display().to_string()) && said.err.contains("exists"), "{said:?}");
    assert_eq!(std::fs::read(&copy).unwrap(), before, "what exists stays as it is");

    let (empty, to) = (tempfile::tempdir().unwrap(), folder.path().join("nothing.sqlite"));
    for data in [empty.path().to_owned(), empty.path().join("missing")] {
        let said = backup(&data, &to).await;
        assert_eq!(said.status, Some(1), "{said:?}");
        assert!(said.err.contains(&data.display().to_string()) && said.err.contains("no ledger"), "{said:?}");
        assert!(!to.exists() && !data.join("ledger.sqlite").exists(), "nothing is made");
    }
}

fn kiln_ledger_backup(to: &Path) -> Command {
    kiln(&["ledger", "backup", to.to_str().unwrap()])
}

#[tokio::test]
async fn every_verb_says_what_it_is_for() {
    for (verb, words) in [
        (&[][..], &["serve", "build", "status", "logs", "user", "doctor", "ledger"][..]),
        (&["serve"], &["--config", "KILN_CONFIG"]),
        (&["build"], &["requirements.txt", "--source", "--target", "--kind", "--detach", "KILN_URL", "KILN_TOKEN"]),
        (&["status"], &["<ID>", "KILN_URL", "KILN_TOKEN"]),
        (&["logs"], &["<ID>", "--follow", "KILN_URL", "KILN_TOKEN"]),
        (&["user", "add"], &["<NAME>", "--file", "--rotate"]),
        (&["doctor"], &["--config"]),
        (&["ledger", "backup"], &["<TO>", "it must not exist", "--config"]),
    ] {
        let mut command = kiln(&[verb, &["--help"]].concat());
        command.env("KILN_TOKEN", "canary-token");
        let said = Said::by(command).await;
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{verb:?}");
        for word in words {
            assert!(said.out.contains(word), "{verb:?} says nothing of {word}: {}", said.out);
        }
        assert!(!said.out.contains("canary-token"), "{verb:?} shows the token");
    }
}
