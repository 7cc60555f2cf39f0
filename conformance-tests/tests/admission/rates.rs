//! Rates by user and class of request.

use serde_json::json;

use crate::{BUILDS, STATUS, assert_probed, assert_refused, idle, start};

const READ: &str = "KILN_LIMITS__RATES__READ";
const SUBMIT: &str = "KILN_LIMITS__RATES__SUBMIT";

#[tokio::test]
async fn every_answer_says_what_is_left_and_beyond_it_the_door_says_when_to_come_back() {
    let kiln = idle().set(READ, "{ per_minute = 1, burst = 3 }").start().await;
    for (user, path) in [("devel", BUILDS), ("other", STATUS)] {
        let client = kiln.client(user);
        for (left, reset) in [(2, 60), (1, 120), (0, 180)] {
            let answer = client.get(path).await;
            assert_ne!(answer.status, 429, "{path}");
            assert_eq!(answer.header("ratelimit-policy"), "\"read\";q=3;w=180", "{path}");
            assert_eq!(answer.header("ratelimit"), format!("\"read\";r={left};t={reset}"), "{path}");
        }
        let refused = client.get(path).await;
        assert_refused(&refused, 429, path);
        assert!(refused.header("retry-after").parse::<u64>().unwrap() > 30, "{}", refused.header("retry-after"));
        assert_eq!(refused.header("ratelimit"), "\"read\";r=0;t=180");
    }
    assert_probed(&kiln).await;
}

#[tokio::test]
async fn one_users_flood_is_nobody_elses_and_no_other_classs() {
    let rates = idle().set(READ, "{ per_minute = 1, burst = 2 }").set(SUBMIT, "{ per_minute = 1, burst = 1 }");
    let kiln = rates.start().await;
    let (devel, other) = (kiln.client("devel"), kiln.client("other"));
    for _ in 0..50 {
        devel.get(BUILDS).await;
    }
    assert_refused(&devel.get(BUILDS).await, 429, BUILDS);
    // Both doors are one gateway.
    assert_refused(&devel.get(STATUS).await, 429, STATUS);
    assert_eq!(other.get(BUILDS).await.status, 200);
    start(&devel, "devel").await;
    let more = json!({ "source": "python", "target": "devel:t", "kind": "python" });
    let refused = devel.post("/system/api/v1/build/start", &more).await;
    assert_refused(&refused, 429, "/system");
    assert!(refused.header("ratelimit-policy").starts_with("\"submit\";q=1;"));
    assert_refused(&devel.post(BUILDS, &json!({ "source": "python", "target": "devel:t" })).await, 429, BUILDS);
    start(&other, "other").await;
}

#[tokio::test]
async fn nobody_meets_the_defaults_by_working() {
    let kiln = idle().start().await;
    let client = kiln.client("devel");
    for _ in 0..500 {
        assert_eq!(client.get(BUILDS).await.status, 200);
    }
}
