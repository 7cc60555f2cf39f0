//! Whoever isn't the owner finds nothing, whatever they ask.

use reqwest::Method;

use crate::{BUILDS, assert_problem, create, idle};

/// What there is of one build.
const OF_ONE: [(Method, &str); 5] = [
    (Method::GET, ""),
    (Method::GET, "/log"),
    (Method::GET, "/wait"),
    (Method::POST, "/cancel"),
    (Method::POST, "/retry"),
];

#[tokio::test]
async fn anothers_build_and_none_are_the_same_answer() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:t").await;
    let other = kiln.client("other");
    let none = "01938d2e-0000-7000-8000-000000000000";
    for (method, part) in OF_ONE {
        let mut answers = Vec::new();
        for id in [id.as_str(), none, "x", "%ff", "..%2f..", &"0".repeat(300)] {
            let answer = other.send(other.request(method.clone(), &format!("{BUILDS}/{id}{part}"))).await;
            assert_problem(&answer, 404, &format!("{method} {id}{part}"));
            answers.push(answer.text);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{method} {part}");
        let anonymous = kiln.anonymous();
        let answer = anonymous.send(anonymous.request(method.clone(), &format!("{BUILDS}/{id}{part}"))).await;
        assert_problem(&answer, 401, part);
    }
    assert_eq!(kiln.client("devel").build(&id).await["state"], "queued");
}
