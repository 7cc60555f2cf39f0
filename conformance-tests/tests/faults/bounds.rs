//! What is bounded: the queue, in all and for each owner, what finished builds leave, descriptors.

use std::{fs, path::Path};

use kiln_conformance_tests::{Client, Engine, Launch, client::Answer, kiln::base};
use serde_json::json;

use crate::{NO_ENGINE, engine_proxy::EngineProxy, start_quick, tag, until};

#[tokio::test]
async fn owners_take_turns_however_many_builds_one_of_them_queues() {
    let mut engine = EngineProxy::down();
    let launch = Launch::on(Engine::Buildkitd).user("many").user("one").set("KILN_LIMITS__CONCURRENCY", "1");
    let kiln = launch.set("KILN_ENGINE__BUILDKIT", engine.address()).start().await;
    let (many, one) = (kiln.client("many"), kiln.client("one"));
    let mut of_many = Vec::new();
    for _ in 0..4 {
        of_many.push(start_quick(&many, "many", &tag()).await);
    }
    let of_one = start_quick(&one, "one", &tag()).await;
    engine.come_up();
    let started = |build: &serde_json::Value| build["started"].as_str().expect("a time").to_owned();
    let of_one = started(&one.ended(&of_one).await);
    let mut before = 0;
    for id in of_many {
        before += usize::from(started(&many.ended(&id).await) < of_one);
    }
    // The one that the idle worker had taken already, and one turn.
    assert!(before <= 2, "{before} of the other owner's builds went before");
}

#[tokio::test]
async fn an_owner_may_queue_so_many_and_all_owners_so_many() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").user("other").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
    let launch = launch.set("KILN_LIMITS__CONCURRENCY", "1").set("KILN_LIMITS__QUEUE_PER_OWNER", "2");
    let kiln = launch.set("KILN_LIMITS__QUEUE", "3").start().await;
    let (devel, other) = (kiln.client("devel"), kiln.client("other"));
    // One more than may wait: the worker has taken one from the queue.
    let (accepted, refused) = until_refused(&devel, "devel").await;
    assert!((2..=3).contains(&accepted), "{accepted}");
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    let (accepted, refused) = until_refused(&other, "other").await;
    assert_eq!(accepted, 1, "another owner's place is another owner's");
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn nothing_is_accepted_with_too_little_space_and_questions_are_answered() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__MIN_FREE", i64::MAX.to_string());
    let kiln = launch.start().await;
    let client = kiln.client("devel");
    until("it isn't ready", || async { (crate::ready(&client).await.0 == 503).then_some(()) }).await;
    let refused = start(&client, "devel").await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("disk is full") && refused.headers.contains_key("retry-after"), "{}", refused.text);
    assert_eq!(client.get("/v1/builds").await.json(), json!({ "builds": [] }));
}

#[tokio::test]
async fn old_builds_go_with_their_logs() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    let id = start_quick(&client, "devel", &tag()).await;
    assert_eq!(client.ended(&id).await["state"], "succeeded");
    assert_eq!(files_below(&kiln.folder().join("data/logs")), 1);
    let kiln = kiln.kill().await.set("KILN_LIMITS__RETENTION", "0s").start().await;
    let client = kiln.client("devel");
    until("the build is gone", || async {
        (client.get(&format!("/v1/builds/{id}")).await.status == 404).then_some(())
    })
    .await;
    until("its log is gone", || async { (files_below(&kiln.folder().join("data/logs")) == 0).then_some(()) }).await;
}

#[tokio::test]
async fn fifty_builds_leave_no_descriptor_behind() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    let open = || fs::read_dir(format!("/proc/{}/fd", kiln.pid().expect("it runs"))).expect("/proc").count();
    // Pools and caches fill with the first ones.
    build_many(&client, 10).await;
    let before = open();
    build_many(&client, 40).await;
    // A pooled connection more or less at the moment of counting; forty builds that leak have forty.
    until("the descriptors are as before", || async { (open() <= before + 4).then_some(()) }).await;
}

async fn build_many(client: &Client, count: usize) {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.start(&base("extendable"), &format!("devel:{}", tag()), "python", None).await);
    }
    for id in ids {
        let build = client.ended(&id).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
    }
}

async fn start(client: &Client, user: &str) -> Answer {
    let body = json!({ "source": base("extendable"), "target": format!("{user}:{}", tag()), "kind": "python" });
    client.post("/system/api/v1/build/start", &body).await
}

/// How many were accepted before one wasn't, and what the answer was then.
async fn until_refused(client: &Client, user: &str) -> (usize, Answer) {
    for accepted in 0..10 {
        let answer = start(client, user).await;
        if answer.status != 200 {
            return (accepted, answer);
        }
    }
    panic!("ten were accepted");
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}
