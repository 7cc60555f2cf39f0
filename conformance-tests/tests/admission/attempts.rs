//! Failed attempts to prove who calls, by address.

use kiln_conformance_tests::{Client, Kiln, Launch, client::Answer};
use reqwest::Method;

use crate::{BUILDS, STATUS, assert_probed, assert_refused, idle};

/// Three failures, and one more a minute.
fn strict() -> Launch {
    idle().set("KILN_LIMITS__RATES__FAILURES", "{ per_minute = 1, burst = 3 }")
}

fn behind_a_proxy() -> Launch {
    strict().set("KILN_LIMITS__TRUSTED_PROXIES", "[\"127.0.0.0/8\"]")
}

/// Sends with these lines of `X-Forwarded-For`.
async fn forwarded(client: &Client, path: &str, lines: &[&str]) -> Answer {
    let request = client.request(Method::GET, path);
    client.send(lines.iter().fold(request, |request, line| request.header("x-forwarded-for", *line))).await
}

async fn fail(kiln: &Kiln, lines: &[&str]) -> u16 {
    forwarded(&kiln.anonymous().with_token("nobody:canary"), BUILDS, lines).await.status.as_u16()
}

#[tokio::test]
async fn an_address_that_failed_too_often_is_refused_and_its_valid_callers_are_not() {
    let kiln = strict().start().await;
    let stranger = kiln.anonymous();
    // None of these is a failure: nothing was shown.
    for _ in 0..20 {
        assert_eq!(stranger.get(BUILDS).await.status, 401);
    }
    for token in ["nobody:canary", "Digest canary", "nobody:canary2"] {
        assert_eq!(stranger.with_token(token).get(STATUS).await.status, 401);
    }
    for token in ["nobody:canary", "Digest canary", "Basic !"] {
        for path in [BUILDS, STATUS] {
            assert_refused(&stranger.with_token(token).get(path).await, 429, path);
        }
    }
    for user in ["devel", "other"] {
        assert_eq!(kiln.client(user).get(BUILDS).await.status, 200);
    }
    assert_eq!(stranger.get(BUILDS).await.status, 401, "who shows nothing is asked for something");
    assert_probed(&kiln).await;
}

#[tokio::test]
async fn a_forged_header_neither_frees_its_sender_nor_binds_anybody() {
    let kiln = strict().start().await;
    for attempt in 0..3 {
        assert_eq!(fail(&kiln, &[&format!("198.51.100.{attempt}")]).await, 401);
    }
    assert_eq!(fail(&kiln, &["198.51.100.77"]).await, 429, "another name is no other address");
    let kiln = strict().set("KILN_LIMITS__TRUSTED_PROXIES", "[\"10.0.0.0/8\"]").start().await;
    for attempt in 0..3 {
        assert_eq!(fail(&kiln, &[&format!("198.51.100.{attempt}, 10.0.0.1")]).await, 401);
    }
    assert_eq!(fail(&kiln, &["198.51.100.77"]).await, 429, "the peer is none of the proxies");
}

#[tokio::test]
async fn that_nobody_is_believed_is_said_once_where_it_matters() {
    let said =
        |line: &serde_json::Value| line["level"] == "WARN" && line.to_string().contains("limits.trusted_proxies");
    for (launch, times) in [(strict(), 1), (behind_a_proxy(), 0)] {
        let kiln = launch.start().await;
        for _ in 0..3 {
            assert_eq!(forwarded(&kiln.client("devel"), BUILDS, &["198.51.100.1"]).await.status, 200);
        }
        assert_eq!(kiln.log().iter().filter(|line| said(line)).count(), times, "{:?}", kiln.log());
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_caller_has_an_address() {
    let kiln = behind_a_proxy().start().await;
    for _ in 0..3 {
        assert_eq!(fail(&kiln, &["198.51.100.1"]).await, 401);
    }
    assert_eq!(fail(&kiln, &["198.51.100.1"]).await, 429);
    // What the caller wrote stands to the left of what the proxy did, in one line or in several.
    for lines in [&["203.0.113.5, 198.51.100.1"][..], &["203.0.113.5", "198.51.100.1"], &["198.51.100.1, 127.0.0.9"]] {
        assert_eq!(fail(&kiln, lines).await, 429, "{lines:?}");
    }
    assert_eq!(fail(&kiln, &["198.51.100.1, 198.51.100.2"]).await, 401);
    // The proxy itself, and what it can't have meant.
    assert_eq!(fail(&kiln, &[]).await, 401);
    assert_eq!(fail(&kiln, &["198.51.100.1, garbage"]).await, 401);
    // An IPv6 caller has a whole /64 to call from.
    for host in 1..=3 {
        assert_eq!(fail(&kiln, &[&format!("2001:db8:0:1::{host}")]).await, 401);
    }
    assert_eq!(fail(&kiln, &["2001:db8:0:1:ffff::1"]).await, 429);
    assert_eq!(fail(&kiln, &["2001:db8:0:2::1"]).await, 401);
    assert_eq!(forwarded(&kiln.client("devel"), BUILDS, &["198.51.100.1"]).await.status, 200);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_takes_few_lines_of_the_log() {
    let kiln = strict().start().await;
    for attempt in 0..300 {
        kiln.anonymous().with_token(&format!("nobody:canary{attempt}")).get(BUILDS).await;
    }
    let log = kiln.log();
    let lines: Vec<_> = log.iter().filter(|line| line["fields"]["what"] == "authenticate").collect();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let last = lines[3]["fields"]["reason"].as_str().unwrap();
    assert!(last.contains("aren't logged for a minute"), "{last}");
    assert!(!log.iter().any(|line| line.to_string().contains("canary")), "the log shows a credential");
}
