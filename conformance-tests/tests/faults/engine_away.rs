//! Engines that aren't there yet, go away, or fall silent.

use kiln_conformance_tests::{Engine, Launch};

use crate::{
    NO_ENGINE, assert_tagged,
    engine_proxy::{EngineProxy, Way},
    follower::{Follower, assert_whole},
    in_its_step, ready, start_lasting, start_quick, tag, texts, until,
};

#[tokio::test]
async fn builds_are_accepted_without_an_engine_and_run_once_there_is_one() {
    let mut engine = EngineProxy::down();
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", engine.address());
    let kiln = launch.start().await;
    let (client, tag) = (kiln.client("devel"), tag());
    assert_eq!(ready(&client).await, (200, "degraded".to_owned()));
    let id = start_quick(&client, "devel", &tag).await;
    assert_eq!(client.build(&id).await["state"], "queued");
    engine.come_up();
    let build = client.ended(&id).await;
    assert_tagged(&build, "devel", &tag).await;
    assert_eq!(build["attempt"], 1);
    assert_eq!(ready(&client).await, (200, "ready".to_owned()));
}

#[tokio::test]
async fn a_build_whose_engine_goes_away_begins_again_on_a_new_attempt() {
    loses_its_engine(Way::Cut).await;
}

#[tokio::test]
async fn a_build_whose_engine_falls_silent_begins_again_on_a_new_attempt() {
    loses_its_engine(Way::Silent).await;
}

async fn loses_its_engine(way: Way) {
    let engine = EngineProxy::up(Way::Open);
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", engine.address());
    let kiln = launch.start().await;
    let (client, tag) = (kiln.client("devel"), tag());
    let id = start_lasting(&client, "devel", &tag, "3").await;
    let follower = Follower::of(&client, &id, 0).await;
    in_its_step(&client, &id, 1).await;
    engine.turn(way);
    until("it waits for an engine", || async { (client.build(&id).await["state"] == "queued").then_some(()) }).await;
    assert_eq!(ready(&client).await, (200, "degraded".to_owned()));
    engine.turn(Way::Open);
    assert_tagged(&client.ended(&id).await, "devel", &tag).await;
    assert_eq!(texts(&client, &id, "attempt").await, ["1", "2"]);
    let warnings = texts(&client, &id, "warning").await;
    assert!(warnings.iter().any(|warning| warning.contains("the engine went away")), "{warnings:?}");
    assert_whole(&follower.ended().await);
}

#[tokio::test]
async fn builds_that_no_engine_takes_in_time_have_failed_all_of_them() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
    let launch = launch.set("KILN_LIMITS__QUEUE_DEADLINE", "2s").set("KILN_LIMITS__CONCURRENCY", "1");
    let kiln = launch.start().await;
    let client = kiln.client("devel");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(start_quick(&client, "devel", &tag()).await);
    }
    for id in ids {
        let build = client.ended(&id).await;
        assert_eq!(build["failure"]["reason"], "EngineUnavailable", "{build:#}");
        assert_whole(&Follower::of(&client, &id, 0).await.ended().await);
    }
}

#[tokio::test]
async fn a_build_that_loses_its_engine_for_good_has_failed_in_time() {
    let engine = EngineProxy::up(Way::Open);
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", engine.address());
    let kiln = launch.set("KILN_LIMITS__QUEUE_DEADLINE", "2s").start().await;
    let client = kiln.client("devel");
    let id = start_lasting(&client, "devel", &tag(), "60").await;
    in_its_step(&client, &id, 1).await;
    engine.turn(Way::Cut);
    let build = client.ended(&id).await;
    assert_eq!(build["failure"]["reason"], "EngineUnavailable", "{build:#}");
}
