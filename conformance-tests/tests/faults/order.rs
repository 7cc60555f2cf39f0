//! Builds side by side: of one target, and of several owners.

use kiln_conformance_tests::{Engine, Launch, kiln::base, registry};

use crate::{assert_tagged, in_its_step, start_lasting, start_quick, tag, texts};

#[tokio::test]
async fn a_tag_ends_at_the_later_build_though_the_earlier_one_ends_last() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__CONCURRENCY", "2");
    let kiln = launch.set("KILN_LIMITS__RUNNING_PER_OWNER", "2").start().await;
    let client = kiln.client("devel");
    let tag = tag();
    let first = start_lasting(&client, "devel", &tag, "5").await;
    in_its_step(&client, &first, 1).await;
    let second = client.ended(&start_quick(&client, "devel", &tag).await).await;
    assert_eq!(client.build(&first).await["state"], "running", "the first one was too fast for this test");
    assert_tagged(&second, "devel", &tag).await;
    // Even a clean-up in between doesn't let the earlier one overtake.
    let cleanup = serde_json::json!({ "max_age_hours": -1 });
    assert_eq!(client.post("/system/api/v1/build/cleanup", &cleanup).await.status, 200);

    let first = client.ended(&first).await;
    assert_eq!(first["state"], "succeeded", "{first:#}");
    assert_ne!(first["digest"], second["digest"]);
    assert_eq!(registry::digest("devel", &tag).await.as_deref(), second["digest"].as_str());
    let notes = texts(&client, first["id"].as_str().expect("an id"), "note").await;
    assert!(notes.iter().any(|note| note.contains("a later build")), "{notes:?}");
}

#[tokio::test]
async fn builds_of_one_target_leave_its_tag_at_the_one_accepted_last() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__CONCURRENCY", "4").start().await;
    let client = kiln.client("devel");
    let tag = tag();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(start_quick(&client, "devel", &tag).await);
    }
    let mut builds = Vec::new();
    for id in &ids {
        builds.push(client.ended(id).await);
    }
    assert!(builds.iter().all(|build| build["state"] == "succeeded"), "{builds:#?}");
    assert_tagged(&builds[3], "devel", &tag).await;
}

#[tokio::test]
async fn a_failing_and_a_cancelled_build_leave_other_owners_alone() {
    let kiln = Launch::on(Engine::Buildkitd)
        .user("devel")
        .user("other")
        .user("third")
        .set("KILN_LIMITS__CONCURRENCY", "3")
        .start()
        .await;
    let (devel, other, third) = (kiln.client("devel"), kiln.client("other"), kiln.client("third"));
    let tag = tag();
    let lasting = start_lasting(&devel, "devel", &tag, "3").await;
    in_its_step(&devel, &lasting, 1).await;
    let failing = other.start(&base("extendable"), &format!("other:{tag}"), "python", Some("fail")).await;
    let cancelled = start_lasting(&third, "third", &tag, "60").await;
    in_its_step(&third, &cancelled, 1).await;
    third.post(&format!("/v1/builds/{cancelled}/cancel"), &serde_json::Value::Null).await;

    assert_eq!(other.ended(&failing).await["failure"]["reason"], "StepFailed");
    assert_eq!(third.ended(&cancelled).await["state"], "cancelled");
    let build = devel.ended(&lasting).await;
    assert_tagged(&build, "devel", &tag).await;
    assert_eq!(build["attempt"], 1);
    for user in ["other", "third"] {
        assert_eq!(registry::digest(user, &tag).await, None, "{user}");
    }
}
