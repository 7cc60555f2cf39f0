//! The door on Docker Engines, with either of their stores: what other files here show on a buildkitd.

use std::time::Duration;

use kiln_conformance_tests::{Engine, kiln::base, registry};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{Archive, KEY, USER, archive, log, post, request, signed_on, unsigned};

const ENGINES: [Engine; 2] = [Engine::Docker, Engine::DockerContainerd];
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_archive_becomes_an_image_whose_digest_the_ledger_has() {
    for engine in ENGINES {
        let kiln = signed_on(engine).start().await;
        let archive = Archive::of(&format!(
            "FROM {}\nARG GREETING\nCOPY hello /hello\nRUN echo $GREETING {}\n",
            base("waiting"),
            Uuid::new_v4()
        ));
        let answer = post(&kiln.anonymous(), &archive).await;
        let json = answer.json();
        assert_eq!((answer.status.as_u16(), &json["status"]), (200, &json!("success")), "{engine:?}: {}", answer.text);
        assert_eq!(json["imageName"], json!(archive.image()), "{engine:?}");
        assert!(log(&answer).contains("moin "), "{engine:?}: {}", answer.text);
        let pushed = registry::digest(&archive.repository, &archive.tag).await;
        let builds = kiln.client(USER).get("/v1/builds").await.json();
        assert_eq!(builds["builds"][0]["digest"].as_str().map(str::to_owned), pushed, "{engine:?}: {builds}");
        assert!(pushed.is_some(), "{engine:?}");
    }
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_pushes_nothing() {
    for engine in ENGINES {
        let kiln = signed_on(engine).start().await;
        let archive = Archive::of(&format!("FROM {}\nRUN echo {}; exit 3\n", base("waiting"), Uuid::new_v4()));
        let answer = post(&kiln.anonymous(), &archive).await;
        assert!(answer.status == 500 && answer.text.contains("exit code 3"), "{engine:?}: {}", answer.text);
        assert_eq!(registry::digest(&archive.repository, &archive.tag).await, None, "{engine:?}");
        let missing = Archive::of("FROM scratch\nCOPY nothing /\n");
        let answer = post(&kiln.anonymous(), &missing).await;
        assert!(
            answer.status == 500 && answer.text.contains("not in the build context"),
            "{engine:?}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_build_is_followed_line_by_line() {
    for engine in ENGINES {
        let kiln = signed_on(engine).start().await;
        let client = kiln.anonymous();
        for (end, status) in [("true", "success"), ("exit 3", "failed")] {
            let step = format!("RUN echo {}; {end}", Uuid::new_v4());
            let archive = Archive::of(&format!("FROM {}\n{step}\n", base("waiting")));
            let signature = archive::sha256(archive.bytes(), KEY);
            let request = unsigned(&client, &archive).header("x-build-signature", signature);
            let answer = client.send(request.header("accept", "application/x-ndjson")).await;
            let last: serde_json::Value = serde_json::from_str(answer.text.lines().last().unwrap()).unwrap();
            assert_eq!((&last["status"], &last["image"]), (&json!(status), &json!(archive.image())), "{engine:?}");
        }
    }
}

#[tokio::test]
async fn other_tenants_bases_are_not_fetched() {
    for engine in ENGINES {
        let kiln = signed_on(engine).start().await;
        let bob = format!("bob{}", Uuid::new_v4().simple());
        registry::copy("bases/waiting", &bob).await;
        let theirs = format!("{}/{bob}", kiln_conformance_tests::engine("KILN_TEST_REGISTRY"));
        for dockerfile in
            [format!("FROM {theirs}\n"), format!("FROM {}\nCOPY --from={theirs} /etc/passwd /x\n", base("waiting"))]
        {
            let answer = post(&kiln.anonymous(), &Archive::of(&dockerfile)).await;
            assert!(answer.status == 500 && answer.text.contains("may not fetch"), "{engine:?}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_build_whose_caller_goes_away_is_cancelled() {
    for engine in ENGINES {
        let mut kiln = signed_on(engine).start().await;
        let archive = Archive::of(&format!("FROM {}\nRUN echo begun {}; sleep 60\n", base("waiting"), Uuid::new_v4()));
        let waiting = tokio::spawn(request(&kiln.anonymous(), &archive).send());
        let accepted = kiln.line(PATIENCE, |line| line["fields"]["what"] == "accept").await;
        let (client, id) = (kiln.client(USER), accepted["fields"]["build"].as_str().unwrap());
        let followed = client.request(Method::GET, &format!("/v1/builds/{id}/log?follow=true"));
        let (mut followed, mut seen) = (followed.send().await.unwrap(), String::new());
        while !seen.contains("event: stdout") {
            let chunk = followed.chunk().await.unwrap().expect("the step writes before the log ends");
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        waiting.abort();
        assert!(waiting.await.is_err(), "the connection is gone");
        let build = client.ended(id).await;
        assert_eq!((&build["state"], &build["failure"]["reason"]), (&json!("cancelled"), &json!("CancelledByUser")));
        assert_eq!(registry::digest(&archive.repository, &archive.tag).await, None, "{engine:?}");
    }
}
