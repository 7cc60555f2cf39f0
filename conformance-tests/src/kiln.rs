//! A `kiln serve` of one's own: started, watched by its log lines, killed, started again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    sync::watch,
    time::timeout,
};

use crate::{Client, Engine, engine};

/// How long the program may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// How long what a user runs may take.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug)]
pub struct Launch {
    variables: BTreeMap<String, String>,
    config: String,
    folder: Arc<TempDir>,
    tokens: BTreeMap<String, String>,
}

/// A running gateway.
#[derive(Debug)]
pub struct Kiln {
    launch: Launch,
    child: Child,
    /// Its public listener, `http://host:port`.
    pub url: String,
    /// Its admin listener.
    pub admin: String,
    lines: Arc<Mutex<Vec<Value>>>,
    grown: watch::Receiver<usize>,
}

impl Launch {
    /// A gateway on `engine` with a data folder of its own, without users.
    ///
    /// # Panics
    /// When the engine isn't up.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test panics where it fails")]
    pub fn on(engine: Engine) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let registry = crate::engine("KILN_TEST_REGISTRY");
        let (variable, address) = engine.variable();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let variables = [
            (variable, address),
            ("KILN_DATA_DIR", path("data")),
            ("KILN_LISTEN", "127.0.0.1:0".to_owned()),
            ("KILN_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("KILN_IDENTITY__USERS_FILE", path("users.toml")),
            ("REGISTRY_HOST", registry.clone()),
            ("KILN_LIMITS__MIN_FREE", "0".to_owned()),
        ];
        let config = format!("[[bases.shared]]\npattern = \"{registry}/bases/*\"\n");
        let variables = variables.map(|(k, v)| (k.to_owned(), v)).into();
        Self { variables, config, folder, tokens: BTreeMap::new() }
    }

    /// A gateway without a configuration file, and of Kiln's own variables with those only that
    /// keep it off this machine's folders and ports.
    #[must_use]
    pub fn drop_in() -> Self {
        let mut launch = Self::on(Engine::Buildkitd);
        launch.variables.retain(|name, _| ["KILN_DATA_DIR", "KILN_ADMIN_LISTEN"].contains(&name.as_str()));
        Self { config: String::new(), ..launch }
    }

    /// With a user in its file; their token is what [`Kiln::client`] sends.
    ///
    /// # Panics
    /// When `kiln user add` fails.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test panics where it fails")]
    pub fn user(mut self, name: &str) -> Self {
        let output = Command::new(program())
            .args(["user", "add", name, "--file"])
            .arg(self.folder.path().join("users.toml"))
            .output()
            .expect("kiln runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        self.tokens.insert(name.to_owned(), token);
        self
    }

    /// The token of a user.
    #[must_use]
    pub fn token(&self, user: &str) -> &str {
        &self.tokens[user]
    }

    /// With a variable set, or changed.
    #[must_use]
    pub fn set(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.variables.insert(variable.to_owned(), value.into());
        self
    }

    /// Without a variable.
    #[must_use]
    pub fn unset(mut self, variable: &str) -> Self {
        self.variables.remove(variable);
        self
    }

    /// With more lines in its configuration file.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// The folder of this gateway's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The program's command line, with nothing of the test's own environment but where it finds
    /// programs and certificates.
    ///
    /// # Panics
    /// When the configuration can't be written.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test panics where it fails")]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.folder.path().join("kiln.toml");
        std::fs::write(&config, &self.config).expect("the configuration is written");
        let mut command = Command::new(program());
        command.args(arguments).env_clear().env("KILN_CONFIG", config);
        for kept in ["PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.envs(std::env::var(kept).map(|value| (kept, value)));
        }
        command.envs(&self.variables);
        command
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it ends, or doesn't serve in time; with its log.
    #[expect(clippy::expect_used, reason = "a test panics where it fails")]
    pub async fn start(self) -> Kiln {
        let mut command = tokio::process::Command::from(self.command(&["serve"]));
        let mut child =
            command.stderr(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true).spawn().expect("kiln runs");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (grows, grown) = watch::channel(0);
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                grows.send_modify(|count| *count += 1);
            }
        });
        let mut kiln = Kiln { launch: self, child, url: String::new(), admin: String::new(), lines, grown };
        let serves = kiln.line(SERVES_WITHIN, |line| line["fields"]["message"] == "kiln serves").await;
        let address = |field: &str| format!("http://{}", serves["fields"][field].as_str().unwrap_or_default());
        (kiln.url, kiln.admin) = (address("listen"), address("admin"));
        kiln
    }
}

impl Kiln {
    /// A client with the user's token.
    ///
    /// # Panics
    /// When the user wasn't added.
    #[must_use]
    pub fn client(&self, user: &str) -> Client {
        Client::new(&self.url, Some(&self.launch.tokens[user]))
    }

    /// The token of a user.
    #[must_use]
    pub fn token(&self, user: &str) -> &str {
        self.launch.token(user)
    }

    /// What the program prints to a user of this gateway, after its exit status: standard output, then errors.
    ///
    /// # Panics
    /// When it doesn't end in time.
    #[expect(clippy::expect_used, reason = "a test panics where it fails")]
    pub async fn run(&self, user: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::new(program());
        command.args(arguments).env("KILN_URL", &self.url).env("KILN_TOKEN", self.token(user));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = timeout(ENDS_WITHIN, output).await.expect("it ends in time").expect("kiln runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// A client without a token.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url, None)
    }

    /// Waits for a line of its log, old or new.
    ///
    /// # Panics
    /// When none comes in time; with its log.
    #[expect(clippy::panic, reason = "a test panics where it fails")]
    pub async fn line(&mut self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                if let Some(line) = self.log().iter().find(|line| wanted(line)) {
                    return Some(line.clone());
                }
                // The sender goes with the program's end.
                if self.grown.changed().await.is_err() {
                    return self.log().iter().find(|line| wanted(line)).cloned();
                }
            }
        };
        match timeout(within, found).await {
            Ok(Some(line)) => line,
            _ => panic!("kiln didn't say what was waited for; it said {:#?}", self.log()),
        }
    }

    /// All lines of its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.launch.folder()
    }

    /// `kill -9`; what is left can be started again.
    pub async fn kill(mut self) -> Launch {
        let _ = self.child.kill().await;
        self.launch
    }

    /// Asks it to stop and waits until it has; gives the exit status.
    ///
    /// # Panics
    /// When it can't be signalled.
    #[expect(clippy::expect_used, reason = "a test panics where it fails")]
    pub async fn stop(mut self) -> (Option<i32>, Launch) {
        let pid = self.child.id().expect("it runs").to_string();
        let signalled = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(signalled.success(), "kiln can't be signalled");
        let status = self.child.wait().await.expect("it ends");
        (status.code(), self.launch)
    }
}

/// The program under test, built beside the test.
#[must_use]
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    // A benchmark lies beside it, a test one folder deeper.
    [folder.join("kiln"), test.with_file_name("kiln")]
        .into_iter()
        .find(|p| p.is_file())
        .unwrap_or_else(|| "kiln".into())
}

/// A base image that the suites were given.
#[must_use]
pub fn base(name: &str) -> String {
    format!("{}/bases/{name}", engine("KILN_TEST_REGISTRY"))
}
