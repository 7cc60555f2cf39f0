//! `kill -9` of the gateway at every state of a build, and what the next process makes of it.

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, kiln::base, registry};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    NO_ENGINE, assert_tagged,
    follower::{Follower, assert_whole},
    in_its_step,
    registry_proxy::{Fate, Moment, RegistryProxy},
    start_lasting, start_quick, tag, texts, until,
};

#[tokio::test]
async fn what_was_answered_200_is_there_and_runs_though_the_gateway_is_killed_amid_requests() {
    const CALLERS: usize = 24;
    /// So many answers are awaited before the kill; the other requests are at any stage then.
    const ANSWERED: usize = 6;
    let engine = Engine::Buildkitd.variable();
    let kiln = Launch::on(Engine::Buildkitd).user("devel").set(engine.0, NO_ENGINE).start().await;
    let client = kiln.client("devel");
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let body = json!({ "source": base("extendable"), "target": format!("devel:{}", tag()), "kind": "python" });
        let request = client.request(Method::POST, "/system/api/v1/build/start").json(&body);
        callers.spawn(async move {
            let answer = request.send().await.ok()?;
            // A head without its body is no answer.
            let answer = answer.error_for_status().ok()?.json::<serde_json::Value>().await.ok()?;
            answer["id"].as_str().map(str::to_owned)
        });
    }
    let mut answered = Vec::new();
    while answered.len() < ANSWERED {
        answered.extend(callers.join_next().await.expect("enough answers").expect("no panic"));
    }
    let launch = kiln.kill().await;
    answered.extend(callers.join_all().await.into_iter().flatten());

    let kiln = launch.set(engine.0, &*engine.1).start().await;
    let client = kiln.client("devel");
    let builds = client.get("/v1/builds").await.json()["builds"].as_array().expect("a list").clone();
    for id in &answered {
        assert!(builds.iter().any(|build| build["id"] == **id), "{id} is lost");
    }
    // Those, too, whose caller saw no answer: what is in the ledger isn't left lying there.
    for build in builds {
        let build = client.ended(build["id"].as_str().expect("an id")).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
    }
}

#[tokio::test]
async fn a_build_that_was_accepted_runs_after_a_kill() {
    let (variable, address) = Engine::Buildkitd.variable();
    let kiln = Launch::on(Engine::Buildkitd).user("devel").set(variable, NO_ENGINE).start().await;
    let tag = tag();
    let id = start_quick(&kiln.client("devel"), "devel", &tag).await;
    let kiln = kiln.kill().await.set(variable, address).start().await;
    ends_well(&kiln.client("devel"), &id, &tag, &["1"]).await;
}

#[tokio::test]
async fn a_build_killed_while_solving_begins_again_and_its_log_goes_on() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let tag = tag();
    let id = start_lasting(&kiln.client("devel"), "devel", &tag, "3").await;
    in_its_step(&kiln.client("devel"), &id, 1).await;
    let kiln = kiln.kill().await.start().await;
    ends_well(&kiln.client("devel"), &id, &tag, &["1", "2"]).await;
}

#[tokio::test]
async fn a_build_killed_while_pushing_begins_again() {
    let (kiln, registry, tag, id) = held_at(Moment::Blob, Fate::Held).await;
    assert_eq!(kiln.client("devel").build(&id).await["state"], "running");
    let launch = kiln.kill().await;
    registry.lift();
    let kiln = launch.start().await;
    ends_well(&kiln.client("devel"), &id, &tag, &["1", "2"]).await;
}

#[tokio::test]
async fn a_build_killed_between_push_and_tag_gets_its_tag_without_building_again() {
    let (kiln, registry, tag, id) = held_at(Moment::Tag, Fate::Held).await;
    assert_eq!(kiln.client("devel").build(&id).await["state"], "pushed");
    let launch = kiln.kill().await;
    assert_eq!(registry::digest("devel", &tag).await, None);
    registry.lift();
    let kiln = launch.start().await;
    ends_well(&kiln.client("devel"), &id, &tag, &["1"]).await;
}

#[tokio::test]
async fn a_build_killed_between_tag_and_record_is_recorded_without_building_again() {
    let (kiln, registry, tag, id) = held_at(Moment::Tag, Fate::Unanswered).await;
    let build = kiln.client("devel").build(&id).await;
    assert_eq!(build["state"], "pushed");
    let launch = kiln.kill().await;
    assert_eq!(registry::digest("devel", &tag).await.as_deref(), build["digest"].as_str());
    registry.lift();
    let kiln = launch.start().await;
    ends_well(&kiln.client("devel"), &id, &tag, &["1"]).await;
}

#[tokio::test]
async fn a_build_that_three_crashes_cut_off_has_failed() {
    let (mut kiln, registry, tag, id) = held_at(Moment::Blob, Fate::Held).await;
    for crash in 1..3 {
        registry.rule(Moment::Blob, Fate::Held);
        kiln = kiln.kill().await.start().await;
        // The engine may still be at the push of the attempt before: the ledger tells them apart.
        let client = kiln.client("devel");
        let again = || async { (client.build(&id).await["attempt"] == crash + 1).then_some(()) };
        until("the next attempt", again).await;
        registry.met(1).await;
    }
    let launch = kiln.kill().await;
    registry.lift();
    let kiln = launch.start().await;
    let client = kiln.client("devel");
    let build = client.ended(&id).await;
    assert_eq!((&build["state"], &build["failure"]["reason"]), (&json!("failed"), &json!("Interrupted")), "{build:#}");
    assert_eq!(registry::digest("devel", &tag).await, None);
    assert_whole(&Follower::of(&client, &id, 0).await.ended().await);
}

#[tokio::test]
async fn a_second_gateway_on_the_same_folder_is_refused() {
    let launch = Launch::on(Engine::Buildkitd).user("devel");
    let mut second = tokio::process::Command::from(launch.command(&["serve"]));
    let kiln = launch.start().await;
    let output = tokio::time::timeout(crate::PATIENCE, second.output()).await.expect("it ends").expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("another kiln serves from it"), "{said}");
    assert_eq!(kiln.anonymous().get("/readyz").await.status, 200);
}

/// A gateway with a build that stands still at a moment of its push.
pub(crate) async fn held_at(moment: Moment, fate: Fate) -> (Kiln, RegistryProxy, String, String) {
    let registry = RegistryProxy::start().await;
    registry.rule(moment, fate);
    let kiln = registry.launch().start().await;
    let tag = tag();
    let id = start_quick(&kiln.client("devel"), "devel", &tag).await;
    registry.met(1).await;
    (kiln, registry, tag, id)
}

/// That the build ends, once, in `succeeded`; and which attempts it took.
async fn ends_well(client: &Client, id: &str, tag: &str, attempts: &[&str]) {
    let follower = Follower::of(client, id, 0).await;
    let build = client.ended(id).await;
    assert_tagged(&build, "devel", tag).await;
    assert_eq!(build["attempt"].to_string(), attempts[attempts.len() - 1]);
    assert_eq!(texts(client, id, "attempt").await, attempts);
    assert_whole(&follower.ended().await);
    assert_eq!(client.get("/v1/builds").await.json()["builds"].as_array().map(Vec::len), Some(1));
}
