//! Cancelling a build at every state.

use std::{fs, time::Duration};

use kiln_conformance_tests::{Client, Engine, Launch, client::Answer, registry};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    assert_tagged,
    follower::{Follower, assert_whole},
    in_its_step,
    killed::held_at,
    registry_proxy::{Fate, Moment},
    start_lasting, start_quick, tag, until,
};

/// From the cancel's answer to the terminal state.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

async fn cancel(client: &Client, id: &str) -> Answer {
    client.post(&format!("/v1/builds/{id}/cancel"), &Value::Null).await
}

/// Cancels, and sees the build end in time.
async fn cancel_ends(client: &Client, id: &str) {
    let follower = Follower::of(client, id, 0).await;
    assert_eq!(cancel(client, id).await.status, 202);
    let asked = Instant::now();
    let build = client.ended(id).await;
    let took = asked.elapsed();
    assert_eq!((&build["state"], &build["failure"]["reason"]), (&json!("cancelled"), &json!("CancelledByUser")));
    assert!(took <= ENDS_WITHIN, "{took:?}");
    assert_whole(&follower.ended().await);
}

#[tokio::test]
async fn a_queued_build_is_cancelled_at_once_and_a_running_one_with_its_process() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__CONCURRENCY", "1").start().await;
    let client = kiln.client("devel");
    let (tag, queued_tag) = (tag(), tag());
    // An argument by which the step's process is known among all others of the machine.
    let seconds = format!("61.{}", Uuid::new_v4().as_u128() % 1_000_000_000);
    let running = start_lasting(&client, "devel", &tag, &seconds).await;
    in_its_step(&client, &running, 1).await;
    until("the step's process is there", || async { process_with(&seconds).then_some(()) }).await;

    let queued = start_quick(&client, "devel", &queued_tag).await;
    let answer = cancel(&client, &queued).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (202, &json!("cancelled")));
    let build = client.build(&queued).await;
    assert_eq!((&build["state"], &build["attempt"]), (&json!("cancelled"), &json!(0)));
    assert_whole(&Follower::of(&client, &queued, 0).await.ended().await);

    cancel_ends(&client, &running).await;
    until("the step's process is gone", || async { (!process_with(&seconds)).then_some(()) }).await;
    assert_eq!(registry::digest("devel", &tag).await, None);
}

#[tokio::test]
async fn a_build_is_cancelled_during_its_push() {
    let (kiln, registry, tag, id) = held_at(Moment::Blob, Fate::Held).await;
    cancel_ends(&kiln.client("devel"), &id).await;
    registry.lift();
    assert_eq!(registry::digest("devel", &tag).await, None);
}

#[tokio::test]
async fn a_tag_never_moves_after_a_cancel_in_the_pushed_state() {
    let (kiln, registry, tag, id) = held_at(Moment::Tag, Fate::Refused).await;
    assert_eq!(kiln.client("devel").build(&id).await["state"], "pushed");
    cancel_ends(&kiln.client("devel"), &id).await;
    registry.lift();
    assert_eq!(registry::digest("devel", &tag).await, None);
}

#[tokio::test]
async fn a_cancel_is_kept_though_the_gateway_is_killed_before_the_build_ended() {
    let (kiln, registry, tag, id) = held_at(Moment::Tag, Fate::Held).await;
    let client = kiln.client("devel");
    assert_eq!(cancel(&client, &id).await.status, 202);
    // The put is on its way, and nobody can call it back: the build waits for what becomes of it.
    assert_eq!(client.build(&id).await["state"], "pushed");
    let launch = kiln.kill().await;
    registry.lift();
    let kiln = launch.start().await;
    assert_eq!(kiln.client("devel").ended(&id).await["state"], "cancelled");
    assert_eq!(registry::digest("devel", &tag).await, None);
}

#[tokio::test]
async fn a_cancel_after_the_end_changes_nothing_and_anothers_build_is_not_found() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").user("other").start().await;
    let (client, tag) = (kiln.client("devel"), tag());
    let id = start_lasting(&client, "devel", &tag, "2").await;
    in_its_step(&client, &id, 1).await;
    assert_eq!(cancel(&kiln.client("other"), &id).await.status, 404);
    assert_eq!(cancel(&client, &Uuid::now_v7().to_string()).await.status, 404);

    let before = client.ended(&id).await;
    assert_tagged(&before, "devel", &tag).await;
    let answer = cancel(&client, &id).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (202, &json!("succeeded")));
    assert_eq!(client.build(&id).await, before);
    assert_eq!(cancel(&kiln.client("other"), &id).await.status, 404);
}

/// Whether any process of the machine, in whatever namespace, sleeps so long.
fn process_with(seconds: &str) -> bool {
    let wanted = format!("sleep\0{seconds}\0").into_bytes();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).any(|line| line == wanted)
}
