//! How a build ends whose caller waits: with the connection, with the process, without an engine.

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, kiln::base, registry};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Archive, PATIENCE, USER, post, request, signed, spooled, until};

/// From the connection's end to the build's.
const CANCELLED_WITHIN: Duration = Duration::from_secs(2);

/// An archive whose step begins and then takes a minute.
pub(crate) fn lasting() -> Archive {
    taking(60)
}

/// An archive whose step begins and then takes so many seconds.
pub(crate) fn taking(seconds: u8) -> Archive {
    Archive::of(&lasting_dockerfile(seconds))
}

/// A step that begins and then takes so many seconds.
pub(crate) fn lasting_dockerfile(seconds: u8) -> String {
    format!("FROM {}\nRUN echo begun {}; sleep {seconds}\n", base("waiting"), Uuid::new_v4())
}

/// Waits until the step of [`taking`] runs; gives the build's id.
pub(crate) async fn in_its_step(client: &Client) -> String {
    until(|| async {
        let builds = client.get("/v1/builds").await.json();
        let id = builds["builds"][0]["id"].as_str()?.to_owned();
        let begun = client.log(&id).await.iter().any(|(kind, text)| kind == "stdout" && text.contains("begun"));
        begun.then_some(id)
    })
    .await
}

async fn failure(client: &Client, id: &str) -> (Value, Value) {
    let build = client.ended(id).await;
    (build["state"].clone(), build["failure"]["reason"].clone())
}

#[tokio::test]
async fn a_build_whose_caller_goes_away_is_cancelled() {
    let mut kiln = signed().start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let archive = lasting();
    let waiting = tokio::spawn(request(&anonymous, &archive).send());
    let id = in_its_step(&client).await;
    waiting.abort();
    assert!(waiting.await.is_err(), "the connection is gone");
    let gone = Instant::now();
    assert_eq!(failure(&client, &id).await, (json!("cancelled"), json!("CancelledByUser")));
    let took = gone.elapsed();
    assert!(took <= CANCELLED_WITHIN, "{took:?}");
    assert_eq!(client.build(&id).await["failure"]["message"], "the caller went away");
    assert_eq!(registry::digest(&archive.repository, &archive.tag).await, None);
    until(|| async { (spooled(&kiln) == 0).then_some(()) }).await;
    let line = kiln.line(PATIENCE, |line| line["target"] == "kiln::audit" && line["fields"]["what"] == "cancel").await;
    let said = ["who", "whose", "reason"].map(|field| line["fields"][field].as_str().unwrap_or_default());
    assert_eq!(said, ["gateway", USER, "the caller went away"]);
}

#[tokio::test]
async fn where_it_is_kept_a_build_goes_on_without_its_caller_and_its_context_goes_with_its_end() {
    let kiln = signed().set("KILN_OPENFAAS__ON_DISCONNECT", "keep").start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let archive = taking(3);
    let waiting = tokio::spawn(request(&anonymous, &archive).send());
    let id = in_its_step(&client).await;
    waiting.abort();
    assert!(waiting.await.is_err(), "the connection is gone");
    assert_eq!(client.ended(&id).await["state"], "succeeded");
    assert!(registry::digest(&archive.repository, &archive.tag).await.is_some());
    until(|| async { (spooled(&kiln) == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_build_whose_caller_goes_away_in_the_queue_never_runs() {
    let kiln = signed().set("KILN_LIMITS__CONCURRENCY", "1").start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let first = tokio::spawn(request(&anonymous, &lasting()).send());
    in_its_step(&client).await;
    let second = tokio::spawn(request(&anonymous, &lasting()).send());
    let id = until(|| async {
        let builds = client.get("/v1/builds").await.json();
        builds["builds"].as_array().filter(|builds| builds.len() == 2)?;
        builds["builds"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    second.abort();
    assert_eq!(failure(&client, &id).await, (json!("cancelled"), json!("CancelledByUser")));
    assert_eq!(client.build(&id).await["attempt"], json!(0));
    first.abort();
}

#[tokio::test]
async fn after_a_crash_a_build_whose_caller_waited_is_not_begun_again() {
    let kiln = signed().start().await;
    let (anonymous, archive) = (kiln.anonymous(), lasting());
    let waiting = tokio::spawn(request(&anonymous, &archive).send());
    let id = in_its_step(&kiln.client(USER)).await;
    let kiln = kiln.kill().await.start().await;
    assert!(waiting.await.unwrap().is_err(), "there is no answer");
    let client = kiln.client(USER);
    assert_eq!(failure(&client, &id).await, (json!("failed"), json!("Interrupted")));
    assert_eq!(client.build(&id).await["attempt"], json!(1));
    let log = client.log(&id).await;
    assert!(log.last().is_some_and(|(kind, text)| kind == "end" && text.starts_with("failed: Interrupted")), "{log:?}");
}

#[tokio::test]
async fn a_stop_ends_it_with_an_answer() {
    let kiln = signed().set("KILN_LIMITS__DRAIN", "0s").start().await;
    let (anonymous, archive) = (kiln.anonymous(), lasting());
    let waiting = tokio::spawn(request(&anonymous, &archive).send());
    in_its_step(&kiln.client(USER)).await;
    let (status, _) = kiln.stop().await;
    assert_eq!(status, Some(0));
    assert_eq!(waiting.await.unwrap().expect("an answer").status(), 503);
}

#[tokio::test]
async fn without_an_engine_the_answer_is_a_503() {
    let away = Engine::Buildkitd.variable().0;
    let kiln = signed().set(away, "unix:///nonexistent/engine.sock").set("KILN_LIMITS__QUEUE_DEADLINE", "1s");
    let kiln = kiln.start().await;
    let answer = post(&kiln.anonymous(), &Archive::of("FROM scratch\nCOPY hello /\n")).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.json()["status"].as_str().is_some_and(|status| status.starts_with("failure: ")), "{}", answer.text);
}
