//! What holds for every route: roots, pages, cross-origin answers, the greeting.

use reqwest::Method;
use serde_json::json;

use super::gateway::{JSON, Tenant, idle, ko, post_raw};

const HTML: &str = "text/html; charset=utf-8";
const NOT_FOUND: &str = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n\
    <p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and \
    try again.</p>\n";
const NOT_ALLOWED: &str = "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n\
    <h1>Method Not Allowed</h1>\n<p>The method is not allowed for the requested URL.</p>\n";

/// Every route below a root, and its method.
const ROUTES: [(&str, Method); 6] = [
    ("start", Method::POST),
    ("cleanup", Method::POST),
    ("ensure", Method::POST),
    ("status", Method::GET),
    ("capabilities", Method::GET),
    ("0000000000000000000000000000000000000000000000000000000000000000", Method::GET),
];
const ROOTS: [&str; 2] = ["/system/api/v1/build", "/api/v1/build"];

#[tokio::test]
async fn the_greeting_needs_no_authorization() {
    let kiln = idle().await;
    let answer = kiln.anonymous().get("/system/info").await;
    let greeting = "{\"message\":\"Welcome to OpenServerless system admin API.\",\"status\":\"ok\"}\n";
    assert_eq!(answer.parts(), (200, JSON, greeting));
}

#[tokio::test]
async fn both_roots_lead_to_the_same_routes() {
    let tenant = Tenant::waiting().await;
    for root in ROOTS {
        let body = json!({ "source": "python", "target": format!("{}:t", tenant.name), "kind": "python" });
        let started = tenant.client.post(&format!("{root}/start"), &body).await.json();
        let id = started["id"].as_str().expect("an id").to_owned();
        let status = tenant.client.get(&format!("{root}/status?id={id}")).await;
        assert_eq!((status.status.as_u16(), status.json()["id"].as_str()), (200, Some(id.as_str())), "{root}");
        let cleaned = tenant.client.post(&format!("{root}/cleanup"), &json!({})).await;
        assert_eq!(cleaned.parts().0, 200, "{root}: {}", cleaned.text);
        assert_eq!(tenant.client.get(&format!("{root}/capabilities")).await.parts().0, 200, "{root}");
        let ensured = tenant.client.post(&format!("{root}/ensure"), &json!({})).await;
        assert_eq!(ensured.parts(), (400, JSON, ko("No JSON payload provided").as_str()), "{root}");
        let found = tenant.client.get(&format!("{root}/{}", "0".repeat(64))).await;
        assert_eq!(found.parts(), (404, JSON, ko("Build not found").as_str()), "{root}");
    }
    assert_eq!(tenant.builds().await.len(), ROOTS.len());
}

#[tokio::test]
async fn an_unknown_path_is_the_servers_page() {
    let kiln = idle().await;
    for path in [
        "/system",
        "/system/",
        "/system/api/v1/build",
        "/system/api/v1/build/",
        "/system/api/v1/build/start/",
        "/system/api/v1/build/status/x",
        "/system/api/v1/build/list/all",
        "/api/v1/build",
        "/api/v1/build/start/",
    ] {
        assert_eq!(kiln.anonymous().get(path).await.parts(), (404, HTML, NOT_FOUND), "{path}");
    }
    let old = kiln.client("devel").post("/system/api/v1/build", &json!({})).await;
    assert_eq!(old.parts(), (404, HTML, NOT_FOUND), "the route of August 2025 is gone");
}

#[tokio::test]
async fn a_wrong_method_is_the_servers_page_whoever_calls() {
    let kiln = idle().await;
    for root in ROOTS {
        for (route, right) in ROUTES {
            for wrong in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                if wrong == right {
                    continue;
                }
                for client in [kiln.anonymous(), kiln.client("devel")] {
                    let answer = client.send(client.request(wrong.clone(), &format!("{root}/{route}"))).await;
                    assert_eq!(answer.parts(), (405, HTML, NOT_ALLOWED), "{wrong} {root}/{route}");
                    assert!(answer.header("allow").contains(right.as_str()), "{wrong} {root}/{route}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_page_may_read_every_answer() {
    let kiln = idle().await;
    let client = kiln.anonymous();
    for path in ["/system/info", "/system/api/v1/build/status", "/system/nowhere", "/api/v1/build/start"] {
        for origin in [None, Some("https://ide.example.org")] {
            let request = client.request(Method::GET, path);
            let request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
            let answer = client.send(request).await;
            assert_eq!(answer.header("access-control-allow-origin"), "*", "{path} from {origin:?}");
            assert_eq!(answer.header("access-control-allow-credentials"), "", "{path}");
        }
    }
}

#[tokio::test]
async fn a_preflight_is_answered_without_authorization() {
    let kiln = idle().await;
    let client = kiln.anonymous();
    for root in ROOTS {
        for (route, method) in ROUTES {
            let request = client
                .request(Method::OPTIONS, &format!("{root}/{route}"))
                .header("origin", "https://ide.example.org")
                .header("access-control-request-method", method.as_str())
                .header("access-control-request-headers", "authorization, content-type");
            let answer = client.send(request).await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""), "{route}");
            for (field, value) in [
                ("access-control-allow-origin", "https://ide.example.org"),
                ("access-control-allow-headers", "authorization, content-type"),
                ("access-control-allow-methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
                ("vary", "Origin"),
            ] {
                assert_eq!(answer.header(field), value, "{route}: {field}");
            }
        }
    }
    let nowhere = client.request(Method::OPTIONS, "/system/nowhere").header("origin", "https://ide.example.org");
    assert_eq!(client.send(nowhere).await.parts(), (404, HTML, NOT_FOUND));
}

#[tokio::test]
async fn a_get_route_answers_head_without_a_body() {
    let kiln = idle().await;
    let client = kiln.client("devel");
    for (path, status) in [("/system/info", 200), ("/system/api/v1/build/status?id=x", 404)] {
        let answer = client.send(client.request(Method::HEAD, path)).await;
        assert_eq!(answer.parts(), (status, JSON, ""), "{path}");
    }
}

#[tokio::test]
async fn json_is_known_by_its_type_with_or_without_parameters() {
    let kiln = idle().await;
    let client = kiln.client("devel");
    let cleanup = "/system/api/v1/build/cleanup";
    for good in [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/vnd.api+json",
        "application/json;",
    ] {
        assert_eq!(post_raw(&client, cleanup, good, "{}").await.parts().0, 200, "{good}");
    }
    for bad in ["application/x-www-form-urlencoded", "text/plain", "text/json", "application/jsonp", "json", ""] {
        for path in [cleanup, "/system/api/v1/build/start", "/system/api/v1/build/ensure"] {
            let answer = post_raw(&client, path, bad, "{}").await;
            assert_eq!(answer.parts(), (415, JSON, ko("Content-Type must be application/json.").as_str()), "{bad}");
        }
    }
}
