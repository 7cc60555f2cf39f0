//! Programs run to their end, and what they said.

use std::{path::PathBuf, process::Stdio, time::Duration};

use kiln_conformance_tests::engine;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long a client may take, builds and all.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What OpenFaaS's own programs made of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) function: String,
    pub(crate) image: String,
    pub(crate) status: String,
    pub(crate) error: String,
    /// The pipeline gets null about what became no build.
    pub(crate) log: Option<Vec<String>>,
}

/// What a script got: the status, and a JSON object for each line.
#[derive(Debug, Deserialize)]
pub(crate) struct Got {
    pub(crate) code: u16,
    pub(crate) lines: Vec<Value>,
}

/// One of what `conformance-tests/clients/fetch` got.
pub(crate) fn fetched(name: &str) -> PathBuf {
    let path = PathBuf::from(engine("KILN_DEV_BIN")).join("openfaas-clients").join(name);
    assert!(path.exists(), "there is no {}: run conformance-tests/clients/fetch", path.display());
    path
}

/// A script of `conformance-tests/clients`.
pub(crate) fn script(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(path)
}

/// Starts a program; it goes with what is returned.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap_or_else(|error| panic!("{command:?} doesn't run: {error}"))
}

/// Waits for a program's end.
pub(crate) async fn ended(child: Child) -> Ended {
    let output = timeout(ENDS_WITHIN, child.wait_with_output()).await.expect("it ends in time").unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs a program to its end.
pub(crate) async fn run(command: &mut Command) -> Ended {
    ended(start(command)).await
}

impl Ended {
    /// The functions' outcomes, in the order of their names.
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let mut outcomes: Vec<Outcome> = self.stdout.lines().map(line).collect();
        outcomes.sort_by(|a, b| a.function.cmp(&b.function));
        outcomes
    }

    /// The outcome of the one function.
    pub(crate) fn outcome(&self) -> Outcome {
        let mut outcomes = self.outcomes();
        assert_eq!(outcomes.len(), 1, "{self:?}");
        outcomes.remove(0)
    }

    /// What a script got.
    pub(crate) fn got(&self) -> Got {
        assert_eq!(self.status, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Outcome {
    /// The log's lines that show `text`.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.log.iter().flatten().any(|line| line.contains(text))
    }
}

impl Got {
    /// The line that decides.
    pub(crate) fn last(&self) -> &Value {
        self.lines.last().expect("a line")
    }
}
