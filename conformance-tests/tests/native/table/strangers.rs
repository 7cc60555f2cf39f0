//! Every endpoint, asked for one user's things with another's token, with none and with one that is none.

use serde_json::json;

use super::{Request, Stage};
use crate::{UNKNOWN_BASE, assert_problem};

/// What another user is answered.
enum Strangers {
    /// This status, as a problem.
    Refused(u16),
    /// What is theirs, and of the owner not the name.
    Own,
}

use Strangers::{Own, Refused};

/// In the order in which the owner may do all of it.
fn rows(stage: &Stage) -> Vec<(Request, Strangers)> {
    let Stage { owner, build, .. } = stage;
    let build = format!("/v1/builds/{build}");
    let copy = json!({ "from": format!("{owner}:t"), "to": format!("{owner}:u") });
    vec![
        (Request::new("get /v1/whoami", "/v1/whoami"), Own),
        (Request::new("get /v1/builds", format!("/v1/builds?owner={owner}")), Refused(404)),
        (Request::new("get /v1/builds/{id}", &*build), Refused(404)),
        (Request::new("get /v1/builds/{id}/log", format!("{build}/log")), Refused(404)),
        (Request::new("get /v1/builds/{id}/wait", format!("{build}/wait?timeout=0")), Refused(404)),
        (Request::new("get /v1/builds/{id}/webhook", format!("{build}/webhook")), Refused(404)),
        (Request::new("post /v1/builds/{id}/cancel", format!("{build}/cancel")), Refused(404)),
        (Request::new("post /v1/builds/{id}/retry", format!("{build}/retry")), Refused(404)),
        (
            Request::new("post /v1/builds", "/v1/builds")
                .json(json!({ "source": UNKNOWN_BASE, "target": format!("{owner}:v") })),
            Refused(403),
        ),
        (Request::new("get /v1/images", "/v1/images"), Own),
        (Request::new("get /v1/images/{name}", format!("/v1/images/{owner}:t")), Refused(404)),
        (Request::new("post /v1/images", "/v1/images").json(copy), Refused(404)),
        (Request::new("delete /v1/images/{name}", format!("/v1/images/{owner}:t?all_tags=true")), Refused(404)),
    ]
}

#[tokio::test]
async fn on_every_endpoint_a_strangers_token_reaches_nothing_that_its_owner_reaches() {
    let stage = Stage::set().await;
    let document = stage.document().await;
    let rows = rows(&stage);
    document.assert_covered(rows.iter().map(|(request, _)| request.endpoint));
    let (owner, stranger) = (stage.kiln.client(&stage.owner), stage.kiln.client(&stage.stranger));
    for (request, expected) in &rows {
        assert_problem(&request.send(&stage.kiln.anonymous()).await, 401, &format!("nobody: {request}"));
        for token in ["x", "Bearer x", "Basic Og==", &stage.owner] {
            let answer = request.send(&stranger.with_token(token)).await;
            assert_problem(&answer, 401, &format!("{token}: {request}"));
        }
        let answer = request.send(&stranger).await;
        match expected {
            Refused(status) => {
                assert_problem(&answer, *status, &request.to_string());
                assert!(document.says(request.endpoint, *status), "{request}: {status}");
            }
            Own => {
                assert_eq!(answer.status, 200, "{request}: {}", answer.text);
                let theirs = answer.text.replace(&stage.stranger, "");
                assert!(!theirs.contains(&stage.owner), "{request}: {}", answer.text);
            }
        }
    }
    // It is all there still, and it was the token that was refused, not the request.
    for (request, _) in &rows {
        let answer = request.send(&owner).await;
        assert!(answer.status.is_success(), "{request}: {} {}", answer.status, answer.text);
    }
}
