//! An API server that has trouble: what is asked again, for how long, and what comes of it.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Request, Response};
use kube::client::Body;
use serde_json::json;

use super::*;

/// What a server answers to one question.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16, &'static str, &'static str),
    Job,
    Never,
}

/// A cluster whose server answers so, the last answer for ever; and how often it was asked.
fn cluster(answers: &'static [Answer]) -> (Cluster, Arc<AtomicU32>) {
    let asked: Arc<AtomicU32> = Arc::default();
    let count = Arc::clone(&asked);
    let server = tower::service_fn(move |_: Request<Body>| {
        let turn = count.fetch_add(1, Ordering::Relaxed) as usize;
        let answer = answers.get(turn).or(answers.last()).copied().unwrap();
        async move {
            let (code, body) = match answer {
                Answer::Never => pending().await,
                Answer::Job => (200, json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}})),
                Answer::Status(code, reason, message) => {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message});
                    (code, status)
                }
            };
            Ok::<_, Infallible>(
                Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap(),
            )
        }
    });
    (Cluster::new(Client::new(server, "default"), "default".to_owned()), asked)
}

async fn read(answers: &'static [Answer]) -> (Result<Job, Unanswered>, u32, Duration) {
    let (cluster, asked) = cluster(answers);
    let begun = Instant::now();
    let outcome = ask("read Jobs", || cluster.jobs.get("j")).await;
    (outcome, asked.load(Ordering::Relaxed), begun.elapsed())
}

const BUSY: Answer = Answer::Status(429, "TooManyRequests", "slow down");
const BROKEN: Answer = Answer::Status(500, "InternalError", "etcd is away");
const OVERLOADED: Answer = Answer::Status(503, "ServiceUnavailable", "no leader");

#[tokio::test(start_paused = true)]
async fn trouble_that_passes_is_waited_out() {
    let (outcome, asked, took) = read(&[BUSY, BROKEN, OVERLOADED, Answer::Job]).await;
    assert_eq!((outcome.unwrap().metadata.name.as_deref(), asked), (Some("j"), 4));
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn trouble_that_stays_is_given_up_in_time_and_named() {
    for (answers, word) in [(&[BUSY] as &[_], "slow down"), (&[BROKEN], "etcd is away"), (&[Answer::Never], "in time")]
    {
        let (outcome, asked, took) = read(answers).await;
        let Err(Unanswered::Unavailable { what, cause }) = outcome else { panic!("{outcome:?}") };
        assert!(cause.contains(word) && asked > 1, "{cause}, asked {asked} times");
        assert!(took <= PATIENCE + Duration::from_secs(1), "{took:?}");
        let error = EngineError::from(Unanswered::Unavailable { what, cause });
        assert!(matches!(error, EngineError::Unreachable { .. }), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_no_is_not_argued_with() {
    for (answer, expected) in [
        (Answer::Status(403, "Forbidden", "jobs is forbidden: User \"x\" cannot get"), "its service account the Role"),
        (Answer::Status(403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: q"), "quota has no room"),
        (Answer::Status(422, "Invalid", "spec.template: Invalid value"), "422"),
        (Answer::Status(404, "NotFound", "jobs \"j\" not found"), "deleted by somebody else"),
        (Answer::Status(409, "Conflict", "Precondition failed: UID in precondition"), "deleted by somebody else"),
        (Answer::Status(409, "AlreadyExists", "jobs \"j\" already exists"), "exists already"),
    ] {
        let (outcome, asked, _) = read(Box::leak(Box::new([answer]))).await;
        let error = EngineError::from(outcome.unwrap_err()).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(asked, 1, "{error}");
    }
}
