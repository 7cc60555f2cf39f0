//! Errors as real daemons sent them, and what becomes of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bollard_buildkit_proto::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{StatusResponse, Vertex, VertexLog},
};
use kiln_auth::{Scope, Target, UserName};

use super::*;
use crate::{
    AttemptName, BasicCredential, BuildId, Destination, InstanceId, Limits, Output, RegistryAuth, RegistryToken,
    SourceRules, TenantKey, TokenRefused, TokenRequest, Tree, buildkit::details::tests::status,
};

struct Nobody;

#[async_trait::async_trait]
impl RegistryAuth for Nobody {
    async fn basic(&self, _: &str) -> Option<BasicCredential> {
        None
    }
    async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused> {
        Err(TokenRefused { host: request.host, cause: String::new() })
    }
}

/// A build of nothing in particular.
pub(crate) fn spec() -> BuildSpec {
    let scope = Scope::of(UserName::parse("ann").unwrap());
    BuildSpec {
        attempt: AttemptName { instance: InstanceId(BuildId::new().0), build: BuildId::new(), attempt: 1 },
        tenant: TenantKey::new([0; 32]),
        context: Arc::new(Tree::builder().build()),
        dockerfile: "Dockerfile".to_owned(),
        frontend: None,
        args: BTreeMap::new(),
        proxy: BTreeMap::new(),
        platforms: Vec::new(),
        no_cache: false,
        output: Output::Push(Destination {
            registry: "r:5000".to_owned(),
            plain_http: true,
            skip_verify: false,
            target: scope.admit(Target::parse("ann/x:1").unwrap()).unwrap(),
        }),
        sources: SourceRules::default(),
        registry_auth: Arc::new(Nobody),
        secrets: BTreeMap::new(),
        limits: Limits {
            deadline: Duration::from_secs(1),
            memory: None,
            cpu_millis: None,
            processes: None,
            storage: None,
            step_deadline: None,
        },
    }
}

/// A fold that saw the step `name` fail after it wrote `output`.
fn fold(name: &str, output: &str, error: &str) -> Fold {
    let at = Some(Timestamp { seconds: 1, nanos: 0 });
    let mut fold = Fold::default();
    fold.fold(StatusResponse {
        vertexes: vec![Vertex {
            digest: "sha256:1".to_owned(),
            name: name.to_owned(),
            started: at,
            ..Vertex::default()
        }],
        logs: vec![VertexLog {
            vertex: "sha256:1".to_owned(),
            msg: output.as_bytes().to_vec(),
            timestamp: at,
            stream: 2,
        }],
        ..StatusResponse::default()
    });
    fold.fold(StatusResponse {
        vertexes: vec![Vertex {
            digest: "sha256:1".to_owned(),
            started: at,
            completed: at,
            error: error.to_owned(),
            ..Vertex::default()
        }],
        ..StatusResponse::default()
    });
    fold
}

fn failure(status: &tonic::Status, fold: &Fold) -> Failure {
    match judge(status, fold, &spec()) {
        Verdict::Final(RunError::Build(failure)) | Verdict::Registry(failure) => failure,
        Verdict::Final(other) => panic!("{other:?}"),
    }
}

/// The typed part of an error: names and JSON.
type Typed = &'static [(&'static str, &'static str)];

const VERTEX: (&str, &str) = ("errdefs.Vertex", r#"{"digest":"sha256:1"}"#);
const LINE: (&str, &str) = ("errdefs.Source", r#"{"ranges":[{"start":{"line":3}}]}"#);
const FRONTEND: (&str, &str) = ("errdefs.Frontend", r#"{"name":"dockerfile.v0"}"#);

/// A step that ended with this code.
fn exited(output: &str, code: &str, suffix: &str) -> Failure {
    let text = format!("process \"/bin/sh -c make\" did not complete successfully: exit code: {code}{suffix}");
    let exit = format!("{{\"Code\":{code}}}");
    let status = status(&text, &[LINE, VERTEX, ("gatewayapi.ExitMessage", &exit)]);
    failure(&status, &fold("[2/3] RUN make", output, &text))
}

#[test]
fn a_failed_step_is_named_with_line_exit_code_and_last_lines() {
    let failure = exited("cc x.c\n\x1b[31merror\x1b[0m: no x.c\n", "2", "");
    assert_eq!(failure.reason, Reason::StepFailed);
    assert_eq!(failure.message, "the step \"RUN make\" (Dockerfile line 3) ended with exit code 2");
    let step = failure.step.unwrap();
    assert_eq!((step.exit_code, step.line), (Some(2), Some(3)));
    assert_eq!(step.tail, ["cc x.c", "error: no x.c"]);
}

#[test]
fn a_base_that_cant_run_the_step_is_unsupported_without_the_runtimes_words() {
    for runtime in [
        "runc run failed: unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory\n",
        "container_linux.go:380: starting container process caused: exec: \"/bin/sh\": executable file not found in $PATH",
        "exec /kiln/extend: no such file or directory\n",
        "exec /bin/sh: exec format error\n",
    ] {
        let failure = exited(runtime, "1", "");
        assert_eq!(failure.reason, Reason::BaseUnsupported, "{runtime}");
        assert!(!failure.message.contains("runc") && !failure.message.contains("stat "), "{}", failure.message);
        assert_eq!(failure.step.unwrap().tail, [""; 0]);
    }
    let own = exited("runc run failed: exec: \"/x\": stat /x: no such file or directory\n", "1", "");
    assert_eq!(own.reason, Reason::StepFailed);
    assert!(own.message.contains("there is no /x in the image"), "{}", own.message);
}

#[test]
fn memory_is_a_reason_of_its_own() {
    assert_eq!(exited("", "137", ": cannot allocate memory").reason, Reason::OutOfMemory);
    assert_eq!(exited("Killed\n", "137", "").reason, Reason::OutOfMemory);
    assert_eq!(exited("", "137", "").reason, Reason::StepFailed);
}

#[test]
fn a_steps_own_words_dont_choose_the_reason() {
    let text = "process \"/bin/sh -c echo failed to push: 401 Unauthorized denied by policy\" \
                did not complete successfully: exit code: 1";
    let status = status(text, &[VERTEX, ("gatewayapi.ExitMessage", r#"{"Code":1}"#)]);
    assert_eq!(failure(&status, &fold("RUN x", "", text)).reason, Reason::StepFailed);
}

#[test]
fn daemons_words_become_reasons() {
    let cases: [(&str, Typed, Reason, &str); 9] = [
        (
            "alpine: failed to resolve source metadata for docker.io/library/alpine:latest: could not resolve image due to \
             policy: source \"docker-image://docker.io/library/alpine:latest\" denied by policy: source denied by policy",
            &[FRONTEND, LINE],
            Reason::SourceDenied,
            "docker.io/library/alpine:latest (Dockerfile line 3)",
        ),
        (
            "failed to load LLB: error evaluating the source policy: source \"http://127.0.0.1:1/x\" denied by policy: \
             source denied by policy",
            &[],
            Reason::SourceDenied,
            "http://127.0.0.1:1/x",
        ),
        (
            "r/b/nothing:1: failed to resolve source metadata for r/b/nothing:1: r/b/nothing:1: not found",
            &[FRONTEND, LINE],
            Reason::BaseNotFound,
            "r/b/nothing:1",
        ),
        (
            "failed to push r:5000/ann/x: unexpected status from HEAD request to http://r:5000/v2/ann/x/blobs/sha256:4: \
             401 Unauthorized",
            &[],
            Reason::PushDenied,
            "r:5000/ann/x",
        ),
        (
            "dockerfile parse error on line 2: unknown instruction: NONSENSE",
            &[FRONTEND, LINE],
            Reason::RecipeInvalid,
            "NONSENSE",
        ),
        ("the Dockerfile cannot be empty", &[FRONTEND], Reason::RecipeInvalid, "empty"),
        (
            "failed to compute cache key: failed to calculate checksum of ref qh57::9l0z: \"/missing\": not found",
            &[LINE, VERTEX],
            Reason::RecipeInvalid,
            "/missing (Dockerfile line 3)",
        ),
        ("secret x: not found", &[LINE, VERTEX], Reason::RecipeInvalid, "secret named x"),
        (
            "failed to read dockerfile: open nope/Dockerfile: no such file or directory",
            &[FRONTEND],
            Reason::RecipeInvalid,
            "\"Dockerfile\"",
        ),
    ];
    for (text, details, reason, part) in cases {
        let failure = failure(&status(text, details), &Fold::default());
        assert_eq!(failure.reason, reason, "{text}");
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn an_engine_that_goes_away_is_no_failed_build() {
    for (code, text) in [
        (tonic::Code::Unavailable, "error reading from server: EOF"),
        (tonic::Code::Cancelled, "context canceled"),
        (tonic::Code::Unknown, "no active session for 1b2c: context deadline exceeded"),
    ] {
        let verdict = judge(&tonic::Status::new(code, text), &Fold::default(), &spec());
        assert!(matches!(verdict, Verdict::Final(RunError::Engine { retryable: true, .. })), "{text}: {verdict:?}");
    }
}

#[test]
fn a_daemons_paths_stay_with_the_daemon() {
    for (text, expected) in [
        ("cannot copy to /var/lib/buildkit/runc-overlayfs/snapshots/7/fs/x: no", "cannot copy to …: no"),
        ("open /run/docker/x.sock", "open …"),
        ("copy /app/main.py failed", "copy /app/main.py failed"),
        ("pull moby/buildkit:1 from https://x/docker/y", "pull moby/buildkit:1 from https://x/docker/y"),
        ("checksum of ref qh57s::9l0: x\ny", "checksum…: x y"),
    ] {
        assert_eq!(public(text), expected);
    }
}
