//! What the clients see when the gateway goes, and the gateway when a client does.

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, wait};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    USER,
    image::Image,
    program::{ended, start},
    project::{Stack, lasts},
    sdk::publish,
    signed,
};

/// From a client's end to its build's.
const CANCELLED_WITHIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the step of [`lasts`] runs; gives the build's id.
async fn in_its_step(client: &Client) -> String {
    until(|| async {
        let builds = client.get("/v1/builds").await.json();
        let id = builds["builds"][0]["id"].as_str()?.to_owned();
        let begun = client.log(&id).await.iter().any(|(kind, text)| kind == "stdout" && text.contains("begun"));
        begun.then_some(id)
    })
    .await
}

async fn until<T>(look: impl AsyncFnMut() -> Option<T>) -> T {
    wait::until(PATIENCE, "it happens", look).await
}

/// A stream that only ended would be a success to faas-cli.
#[tokio::test]
async fn a_gateway_that_stops_tells_its_clients_so() {
    for (more, error) in [(&[][..], "the gateway stopped before the build had ended"), (&["-sync"], "status code 503")]
    {
        let kiln = signed(Engine::Buildkitd).set("KILN_LIMITS__DRAIN", "0s").start().await;
        let image = Image::new();
        let stack = Stack::of(&image, &lasts());
        let client = start(&mut publish(&kiln, stack.path(), more));
        in_its_step(&kiln.client(USER)).await;
        let (status, _) = kiln.stop().await;
        assert_eq!(status, Some(0));
        let ended = ended(client).await;
        assert!(ended.status == Some(1) && ended.outcome().error.contains(error), "{ended:?}");
        assert_eq!(image.digest().await, None);
    }
}

/// The same holds of whatever else ends a build before its time.
#[tokio::test]
async fn a_build_that_is_cancelled_or_takes_too_long_is_a_failure_to_its_client() {
    for (deadline, error) in [("30m", "cancelled the build"), ("3s", "took longer than the 3 s")] {
        let kiln = signed(Engine::Buildkitd).set("KILN_LIMITS__DEADLINE", deadline).start().await;
        let client = kiln.client(USER);
        let stack = Stack::of(&Image::new(), &lasts());
        let publishing = start(&mut publish(&kiln, stack.path(), &[]));
        let id = in_its_step(&client).await;
        if deadline == "30m" {
            let cancelled = client.post(&format!("/v1/builds/{id}/cancel"), &json!({})).await;
            assert!(cancelled.status.is_success(), "{}", cancelled.text);
        }
        let ended = ended(publishing).await;
        let outcome = ended.outcome();
        assert_eq!((ended.status, outcome.status.as_str()), (Some(1), "failed"), "{ended:?}");
        assert!(outcome.error.contains(error), "{}", outcome.error);
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_is_an_error_to_its_clients() {
    for more in [&[][..], &["-sync"]] {
        let kiln = signed(Engine::Buildkitd).start().await;
        let stack = Stack::of(&Image::new(), &lasts());
        let client = start(&mut publish(&kiln, stack.path(), more));
        in_its_step(&kiln.client(USER)).await;
        kiln.kill().await;
        let ended = ended(client).await;
        assert!(ended.outcome().status != "success", "{ended:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_killed_takes_its_build_along() {
    for more in [&[][..], &["-sync"]] {
        let kiln = signed(Engine::Buildkitd).start().await;
        let (image, client) = (Image::new(), kiln.client(USER));
        let stack = Stack::of(&image, &lasts());
        let mut publishing = start(&mut publish(&kiln, stack.path(), more));
        let id = in_its_step(&client).await;
        publishing.kill().await.unwrap();
        let gone = Instant::now();
        let build = client.ended(&id).await;
        assert_eq!(
            (&build["state"], &build["failure"]["reason"]),
            (&json!("cancelled"), &json!("CancelledByUser")),
            "{more:?}"
        );
        assert!(gone.elapsed() <= CANCELLED_WITHIN, "{more:?}: {:?}", gone.elapsed());
        assert_eq!(image.digest().await, None);
    }
}
