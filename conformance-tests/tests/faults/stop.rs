//! SIGTERM: what may end ends, the rest is handed to the next process, and nobody is cut off.

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, Launch};
use tokio::time::{Instant, timeout};

use crate::{
    NO_ENGINE, PATIENCE, assert_tagged,
    engine_proxy::{EngineProxy, Way},
    follower::{Follower, assert_whole},
    in_its_step, ready, start_lasting, start_quick, tag, texts, until,
};

/// Within which a stop that has nothing to wait for has ended.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_short_build_ends_during_the_stop_while_questions_are_answered() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let (client, tag) = (kiln.client("devel"), tag());
    let id = start_lasting(&client, "devel", &tag, "4").await;
    in_its_step(&client, &id, 1).await;
    let follower = Follower::of(&client, &id, 0).await;
    let stopping = tokio::spawn(kiln.stop());
    until("it isn't ready any more", || async { (ready(&client).await == (503, "unready".to_owned())).then_some(()) })
        .await;
    assert_eq!(client.build(&id).await["state"], "running");
    assert!(!client.log(&id).await.is_empty());
    assert_eq!(client.get("/healthz").await.status, 200);
    let refused = client.post("/system/api/v1/build/start", &start_body()).await;
    assert_eq!((refused.status.as_u16(), refused.headers.contains_key("retry-after")), (503, true), "{}", refused.text);
    assert_whole(&follower.ended().await);

    let (status, launch) = timeout(PATIENCE, stopping).await.expect("it stops").unwrap();
    assert_eq!(status, Some(0));
    let kiln = launch.start().await;
    let build = kiln.client("devel").build(&id).await;
    assert_tagged(&build, "devel", &tag).await;
    assert_eq!(build["attempt"], 1);
}

#[tokio::test]
async fn a_long_build_is_handed_on_as_often_as_need_be_and_its_follower_misses_nothing() {
    /// More than crashes would be forgiven.
    const STOPS: usize = 4;
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__DRAIN", "0s");
    let (mut kiln, tag) = (launch.start().await, tag());
    let id = start_lasting(&kiln.client("devel"), "devel", &tag, "5").await;
    let mut seen = Vec::new();
    for stop in 1..=STOPS {
        let client = kiln.client("devel");
        let follower = Follower::of(&client, &id, last(&seen)).await;
        in_its_step(&client, &id, stop).await;
        let (status, launch) = timeout(STOPS_WITHIN, kiln.stop()).await.expect("it stops");
        assert_eq!(status, Some(0));
        seen.extend(follower.ended().await);
        assert!(seen.iter().all(|record| record.kind != "end"), "{seen:?}");
        kiln = launch.start().await;
    }
    let client = kiln.client("devel");
    let follower = Follower::of(&client, &id, last(&seen)).await;
    assert_tagged(&client.ended(&id).await, "devel", &tag).await;
    seen.extend(follower.ended().await);
    assert_whole(&seen);
    assert_eq!(texts(&client, &id, "attempt").await, ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_stop_waits_for_no_engine() {
    let silent = EngineProxy::up(Way::Silent);
    for engine in [NO_ENGINE.to_owned(), silent.address()] {
        let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", &*engine);
        let kiln = launch.start().await;
        let (client, tag) = (kiln.client("devel"), tag());
        let id = start_quick(&client, "devel", &tag).await;
        let follower = Follower::of(&client, &id, 0).await;
        let begun = Instant::now();
        let (status, launch) = timeout(PATIENCE, kiln.stop()).await.expect("it stops");
        assert_eq!(status, Some(0), "{engine}");
        assert!(begun.elapsed() < STOPS_WITHIN, "{engine}: {:?}", begun.elapsed());
        let seen = follower.ended().await;

        let (variable, address) = Engine::Buildkitd.variable();
        let kiln = launch.set(variable, address).start().await;
        let client = kiln.client("devel");
        assert_tagged(&client.ended(&id).await, "devel", &tag).await;
        let rest = Follower::of(&client, &id, last(&seen)).await.ended().await;
        assert_whole(&[seen, rest].concat());
    }
}

#[tokio::test]
async fn a_stop_waits_for_no_registry() {
    use crate::{
        killed::held_at,
        registry_proxy::{Fate, Moment},
    };
    let (kiln, registry, tag, id) = held_at(Moment::Tag, Fate::Held).await;
    let launch = kiln.kill().await.set("KILN_LIMITS__DRAIN", "1s");
    registry.rule(Moment::Tag, Fate::Held);
    let kiln = launch.start().await;
    registry.met(1).await;
    let (status, launch) = timeout(STOPS_WITHIN, kiln.stop()).await.expect("it stops");
    assert_eq!(status, Some(0));
    registry.lift();
    let kiln = launch.start().await;
    let client: Client = kiln.client("devel");
    assert_tagged(&client.ended(&id).await, "devel", &tag).await;
    assert_eq!(texts(&client, &id, "attempt").await, ["1"]);
}

fn start_body() -> serde_json::Value {
    let source = kiln_conformance_tests::kiln::base("extendable");
    serde_json::json!({ "source": source, "target": format!("devel:{}", tag()), "kind": "python" })
}

fn last(seen: &[crate::follower::Record]) -> u64 {
    seen.last().map_or(0, |record| record.seq)
}
