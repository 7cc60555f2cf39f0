//! A gateway to be measured: the released program, its log lines going to a file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use kiln_conformance_tests::{Engine, Launch};
use serde_json::Value;

use crate::{Result, openfaas};

/// The owner of all builds.
pub(crate) const OWNER: &str = "bench";
const TEMPORARY: &str = "tmp";

/// A running gateway; ends with the value.
pub(crate) struct Gateway {
    launch: Launch,
    child: Child,
    /// `host:port` of its public listener.
    pub(crate) address: String,
    /// The owner's token.
    pub(crate) token: String,
}

impl Gateway {
    /// One whose engine doesn't answer: what it accepts stays queued. Its queue is as good as unbounded.
    pub(crate) async fn without_engine() -> Result<Self> {
        let launch = Launch::on(Engine::Buildkitd);
        let nowhere = format!("unix://{}", launch.folder().join("nobody.sock").display());
        let launch = launch.set("KILN_ENGINE__BUILDKIT", nowhere);
        let unbounded = |launch: Launch, key: &str| launch.set(key, "10000000");
        let launch = ["KILN_LIMITS__QUEUE", "KILN_LIMITS__QUEUE_PER_OWNER"].into_iter().fold(launch, unbounded);
        Self::start(launch).await
    }

    /// One on the development buildkitd.
    pub(crate) async fn with_engine() -> Result<Self> {
        Self::start(Launch::on(Engine::Buildkitd)).await
    }

    /// One on the development buildkitd that takes archives signed with [`openfaas::KEY`].
    pub(crate) async fn with_openfaas() -> Result<Self> {
        let launch = Launch::on(Engine::Buildkitd);
        let (key, temporary) = (launch.folder().join("payload-secret"), launch.folder().join(TEMPORARY));
        fs::write(&key, openfaas::KEY)?;
        fs::create_dir(&temporary)?;
        let launch = launch.set("KILN_OPENFAAS__PAYLOAD_SECRET_FILE", key.display().to_string());
        let launch = launch.set("KILN_IDENTITY__SHARED_NAMES", "true").set("KILN_OPENFAAS__UNBOUNDED", "true");
        let launch = launch.set("TMPDIR", temporary.display().to_string());
        let at_once = |launch: Launch, key: &str| launch.set(key, openfaas::CALLERS.to_string());
        let launch = ["KILN_LIMITS__CONCURRENCY", "KILN_LIMITS__RUNNING_PER_OWNER"].into_iter().fold(launch, at_once);
        Self::start(launch).await
    }

    /// A gateway whose limits nobody meets: not they are measured.
    pub(crate) async fn start(launch: Launch) -> Result<Self> {
        let rate = "{ per_minute = 60000000, burst = 1000000 }";
        let launch = launch.set("KILN_LIMITS__RATES__SUBMIT", rate).set("KILN_LIMITS__RATES__READ", rate);
        let launch = launch.set("KILN_LIMITS__REQUESTS_PER_OWNER", "1024");
        let users = launch.folder().join("users.toml").display().to_string();
        let added = launch.command(&["user", "add", OWNER, "--file", &users]).output()?;
        let token = String::from_utf8(added.stdout)?.trim().to_owned();
        let lines = launch.folder().join("lines");
        let child = launch.command(&["serve"]).stdin(Stdio::null()).stderr(File::create(&lines)?).spawn()?;
        let mut gateway = Self { launch, child, address: String::new(), token };
        gateway.address = serves(&lines).await?;
        Ok(gateway)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where files go of which it says no better place.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder().join(TEMPORARY)
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &Path {
        self.launch.folder()
    }
}

/// A request of the owner, ready to be sent.
pub(crate) fn request(gateway: &Gateway, method: &str, path: &str, body: &str) -> Vec<u8> {
    let fields = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let mut request = request_as(&gateway.token, gateway, method, path, &fields);
    request.extend_from_slice(body.as_bytes());
    request
}

/// A request with this token and these header lines, without a body.
pub(crate) fn request_as(
    token: &str,
    Gateway { address, .. }: &Gateway,
    method: &str,
    path: &str,
    fields: &str,
) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {token}\r\n{fields}\r\n").into_bytes()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the line that says where it listens.
async fn serves(lines: &PathBuf) -> Result<String> {
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let text = fs::read_to_string(lines)?;
        let mut parsed = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(line) = parsed.find(|line| line["fields"]["message"] == "kiln serves") {
            return Ok(line["fields"]["listen"].as_str().unwrap_or_default().to_owned());
        }
    }
    Err(format!("the gateway doesn't serve: {}", fs::read_to_string(lines)?).into())
}
