//! Faults, against a double in this process; `tests/couchdb.rs` asks a real server.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use super::*;

/// What the double does with a question.
#[derive(Clone)]
enum Answer {
    Reply(u16, String),
    Silence,
    HangUp,
}

type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

fn docs(docs: Value) -> Answer {
    Answer::Reply(200, json!({ "docs": docs, "warning": "no index" }).to_string())
}

fn subject(more: Value) -> Answer {
    let mut doc = json!({ "subject": "Devel", "namespaces": [
        { "name": "other", "uuid": "u0", "key": "k0" },
        { "name": "Devel", "uuid": "u", "key": "k" },
    ]});
    doc.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    docs(json!([doc]))
}

fn metadata() -> Answer {
    docs(json!([{
        "login": "Devel",
        "env": [{ "key": "A", "value": "1" }, { "key": "B", "value": "1" }, { "key": "N", "value": 7 }],
        "userenv": [{ "key": "B", "value": "2" }],
    }]))
}

/// A CouchDB that answers about subjects and about metadata in one way each.
async fn double(subjects: Answer, metadata: Answer) -> (CouchDbConfig, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = config(listener.local_addr().unwrap().port());
    let asked = Asked::default();
    let record = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (subjects, metadata, record) = (subjects.clone(), metadata.clone(), Arc::clone(&record));
            let answer = move |request: Request<Incoming>| {
                let about_subjects = request.uri().path().starts_with("/nuvolaris_subjects/");
                let answer = if about_subjects { subjects.clone() } else { metadata.clone() };
                reply(request, answer, Arc::clone(&record))
            };
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    (config, asked)
}

async fn reply(request: Request<Incoming>, answer: Answer, record: Asked) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let query = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
    let authorization = parts.headers[AUTHORIZATION].to_str().unwrap().to_owned();
    record.lock().unwrap().push((parts.uri.to_string(), authorization, query));
    match answer {
        Answer::Reply(status, body) => Ok(Response::builder().status(status).body(body.into()).unwrap()),
        Answer::Silence => std::future::pending().await,
        Answer::HangUp => Err(io::Error::other("hang up")),
    }
}

fn config(port: u16) -> CouchDbConfig {
    let variable = |name: &str| match name {
        "COUCHDB_SERVICE_HOST" => Some("127.0.0.1".to_owned()),
        "COUCHDB_SERVICE_PORT" => Some(port.to_string()),
        "COUCHDB_ADMIN_PASSWORD" => Some("pass:word".to_owned()),
        _ => None,
    };
    CouchDbConfig::from_variables(variable).unwrap()
}

async fn ask(config: &CouchDbConfig) -> Result<Identity, Refusal> {
    CouchDb::new(config).unwrap().identify(&Credential::parse(b"u:k").unwrap(), &Asker::GATEWAY).await
}

async fn cause(config: &CouchDbConfig) -> String {
    match ask(config).await {
        Err(Refusal::Unavailable(cause)) => cause.to_string(),
        other => panic!("expected Unavailable, got {other:?}"),
    }
}

#[tokio::test]
async fn a_known_token_is_proved_with_both_environments() {
    let (config, asked) = double(subject(json!({})), metadata()).await;
    let identity = ask(&config).await.unwrap();
    assert_eq!((identity.user().as_str(), identity.provider()), ("devel", "couchdb"));
    let merged: Vec<_> = identity.environment().iter().collect();
    assert_eq!(merged, [("A", "1"), ("B", "2"), ("N", "7")]);
    assert_eq!(identity.operator_environment().get("B"), Some("1"));

    let asked = asked.lock().unwrap();
    let admin = "Basic d2hpc2tfYWRtaW46cGFzczp3b3Jk";
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].0.as_str(), asked[0].1.as_str()), ("/nuvolaris_subjects/_find", admin));
    assert_eq!(asked[0].2["selector"], json!({ "namespaces": { "$elemMatch": { "uuid": "u", "key": "k" } } }));
    assert_eq!((asked[1].0.as_str(), asked[1].1.as_str()), ("/nuvolaris_users_metadata/_find", admin));
    assert_eq!(asked[1].2["selector"], json!({ "login": { "$eq": "Devel" } }));
}

#[tokio::test]
async fn the_view_is_asked_for_the_uuid_and_the_key_is_compared_here() {
    let rows = |key: &str| {
        let doc = json!({ "subject": "Devel", "namespaces": [{ "uuid": "u\"&", "key": key }] });
        Answer::Reply(200, json!({ "rows": [{ "id": "x", "doc": null }, { "id": "Devel", "doc": doc }] }).to_string())
    };
    for (subjects, proved) in [(rows("canary"), true), (rows("Canary"), false), (docs(json!([])), false)] {
        let (config, asked) = double(subjects, metadata()).await;
        let couchdb = CouchDb::new(&CouchDbConfig { view: true, ..config }).unwrap();
        let answer = couchdb.identify(&Credential::parse(b"u\"&:canary").unwrap(), &Asker::GATEWAY).await;
        assert_eq!(answer.is_ok(), proved);
        let (path, _, query) = asked.lock().unwrap()[0].clone();
        assert_eq!(path, "/nuvolaris_subjects/_design/kiln/_view/tokens?include_docs=true&key=%22u%5C%22%26%22");
        assert_eq!(query, Value::Null);
        let long = Credential::parse(format!("{}:canary", "u".repeat(129)).as_bytes()).unwrap();
        let before = asked.lock().unwrap().len();
        assert!(matches!(couchdb.identify(&long, &Asker::GATEWAY).await, Err(Refusal::NotMine)));
        assert_eq!(asked.lock().unwrap().len(), before);
    }
}

#[tokio::test]
async fn indexes_are_made_once_and_anothers_left_alone() {
    let there = |views: Value| json!({ "views": views }).to_string();
    let [login, view] = Index::all();
    for (status, answer, index, made) in [
        (200, json!({ "result": "created" }).to_string(), &login, Made::Created),
        (200, json!({ "result": "exists" }).to_string(), &login, Made::Exists),
        (201, json!({ "ok": true }).to_string(), &view, Made::Created),
    ] {
        let (config, _) = double(Answer::Reply(status, answer.clone()), Answer::Reply(status, answer)).await;
        assert_eq!(CouchDb::new(&config).unwrap().make(index).await.unwrap(), made);
    }
    for (status, body) in [(500, "canary".to_owned()), (401, there(json!({}))), (409, there(json!({})))] {
        let (config, _) = double(Answer::Reply(status, body.clone()), Answer::Reply(status, body)).await;
        let error = CouchDb::new(&config).unwrap().make(&view).await.unwrap_err().to_string();
        assert!(error.contains(&format!("answers {status}")), "{error}");
    }
}

#[tokio::test]
async fn tokens_of_nobody_pass_on_and_owners_without_entry_are_rejected() {
    let none = || docs(json!([]));
    let other = docs(json!([{ "subject": "Devel", "namespaces": [{ "uuid": "u", "key": "K" }] }]));
    let nameless = docs(json!([{ "login": "Devel" }]));
    for (subjects, metadata, not_mine) in [
        (none(), metadata(), true),
        (other, metadata(), true),
        (subject(json!({ "blocked": true })), metadata(), false),
        (subject(json!({})), none(), false),
        (subject(json!({ "subject": "a b" })), nameless, false),
    ] {
        let refusal = ask(&double(subjects, metadata).await.0).await.unwrap_err();
        assert!(matches!((&refusal, not_mine), (Refusal::NotMine, true) | (Refusal::Rejected(_), false)), "{refusal}");
    }
    let unblocked = double(subject(json!({ "blocked": false })), metadata()).await.0;
    assert!(ask(&unblocked).await.is_ok());
}

#[tokio::test]
async fn an_account_without_variables_has_an_empty_environment() {
    let (config, _) = double(subject(json!({})), docs(json!([{ "login": "Devel" }]))).await;
    let identity = ask(&config).await.unwrap();
    assert!(identity.environment_known() && identity.environment().is_empty());
}

#[tokio::test]
async fn faults_are_unavailability_with_a_cause_that_repeats_no_secret() {
    let long = format!("{{\"docs\":[],\"canary\":\"{}\"}}", "x".repeat(2 << 20));
    for (answer, said) in [
        (Answer::Reply(500, "canary".into()), "answers 500"),
        (Answer::Reply(401, "canary".into()), "COUCHDB_ADMIN_PASSWORD"),
        (Answer::Reply(404, "canary".into()), "no such database"),
        (Answer::Reply(302, "canary".into()), "answers 302"),
        (Answer::Reply(200, "<html>canary".into()), "column 1 of line 1"),
        (Answer::Reply(200, "{\"docs\":\"canary\"}".into()), "not as expected"),
        (Answer::Reply(200, "{}".into()), "not as expected"),
        (Answer::Reply(200, long), "can't be read"),
        (Answer::HangUp, "can't be reached"),
    ] {
        let first = cause(&double(answer.clone(), metadata()).await.0).await;
        let second = cause(&double(subject(json!({})), answer).await.0).await;
        for cause in [first, second] {
            assert!(cause.contains(said) && !cause.contains("canary"), "{said}: {cause}");
            assert!(!cause.contains("pass:word") && !cause.contains("d2hpc2s"), "{cause}");
        }
    }
}

#[tokio::test]
async fn a_refused_connection_is_unavailability() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert!(cause(&config(port)).await.contains("can't be reached"));
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    for (subjects, metadata) in [(Answer::Silence, metadata()), (subject(json!({})), Answer::Silence)] {
        let (mut config, _) = double(subjects, metadata).await;
        config.limits.lookup = Duration::from_millis(200);
        assert!(cause(&config).await.contains("did not answer within 200ms"));
    }
}

#[tokio::test]
async fn lookups_at_once_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(listener.local_addr().unwrap().port());
    config.limits.lookups = 3;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let watermark = Arc::clone(&most);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (now, most) = (Arc::clone(&now), Arc::clone(&watermark));
            let answer = move |_: Request<Incoming>| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{\"docs\":[]}")))
                }
            };
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    let couchdb = Arc::new(CouchDb::new(&config).unwrap());
    let mut callers = JoinSet::new();
    for index in 0..40 {
        let couchdb = Arc::clone(&couchdb);
        let credential = Credential::parse(format!("u{index}:k").as_bytes()).unwrap();
        callers.spawn(async move { couchdb.identify(&credential, &Asker::GATEWAY).await });
    }
    while let Some(answer) = callers.join_next().await {
        assert!(matches!(answer.unwrap(), Err(Refusal::NotMine)));
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
