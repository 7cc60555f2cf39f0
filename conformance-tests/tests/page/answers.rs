//! What each page carries besides what is seen, and errors as pages.

use kiln_conformance_tests::client::Answer;
use reqwest::Method;

use crate::{
    create, idle,
    visitor::{FROM_PAGE, Visitor},
};

fn assert_page(answer: &Answer, status: u16, what: &str) {
    let said = (answer.status.as_u16(), answer.header("content-type"));
    assert_eq!(said, (status, "text/html; charset=utf-8"), "{what}: {}", answer.text);
    let policy = answer.header("content-security-policy");
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{what}: {policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value, "{what}: {name}");
    }
    for inline in [" style=", " onclick=", "<style", "<script>", "javascript:", "http://www"] {
        assert!(!answer.text.contains(inline), "{what}: {inline}");
    }
}

#[tokio::test]
async fn every_page_is_strict_and_every_error_is_a_page() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:t").await;
    let devel = Visitor::signed_in(&kiln, "devel").await;
    for (path, status) in [
        ("/", 200),
        ("/?state=active", 200),
        ("/?state=cancelled", 200),
        ("/sign-in", 200),
        (&format!("/builds/{id}"), 200),
        ("/builds", 404),
        ("/builds/", 404),
        ("/builds/x", 404),
        ("/builds/%ff", 404),
        ("/builds/x/y", 404),
        ("/?state=odd", 400),
        ("/?cursor=x", 400),
        ("/?cursor=<script>", 400),
        ("/images", 200),
        ("/images?cursor=x", 400),
        ("/images?cursor=devel/..", 400),
        ("/images/", 404),
        ("/images/%ff", 404),
        ("/images/other", 404),
        ("/images/other:t", 404),
        ("/images/devel/none:t", 404),
        ("/images/devel/none?cursor=<", 400),
        ("/assets/none", 404),
    ] {
        assert_page(&devel.get(path).await, status, path);
    }
    assert_page(&devel.post("/builds/x/cancel", &[], &FROM_PAGE).await, 404, "cancel of none");
    assert_page(&devel.post(&format!("/builds/{id}/retry"), &[], &FROM_PAGE).await, 409, "retry of one that goes on");
    for path in ["/images/devel/none:t", "/images/other:t", "/images/%ff"] {
        assert_page(&devel.post(path, &[], &FROM_PAGE).await, 404, path);
    }
    assert_page(&devel.post("/images/devel", &[], &FROM_PAGE).await, 400, "removal of a whole repository");
    let odd = [("all_tags", "odd")];
    assert_page(&devel.post("/images/devel:t", &odd, &FROM_PAGE).await, 422, "a form that isn't the page's");
    for (method, path) in [(Method::PUT, "/builds/x"), (Method::DELETE, "/sign-in"), (Method::GET, "/sign-out")] {
        assert_page(&devel.send(devel.request(method, path)).await, 405, path);
    }
}

#[tokio::test]
async fn what_the_page_is_made_of_is_kept_by_browsers_until_it_changes() {
    let kiln = idle().await;
    let visitor = Visitor::of(&kiln);
    let page = visitor.get("/sign-in").await.text;
    for kind in ["css", "js"] {
        let begin = page.find(&format!("/assets/page.{kind}?")).unwrap();
        let address = page[begin..].split('"').next().unwrap();
        let answer = visitor.get(address).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let old = visitor.get(&format!("/assets/page.{kind}?0")).await;
        assert_eq!(old.header("cache-control"), "no-cache");
    }
    assert_eq!(visitor.get("/assets/icon.svg").await.header("content-type"), "image/svg+xml");
}

#[tokio::test]
async fn a_list_is_filtered_and_goes_on_in_pages() {
    let kiln = idle().await;
    let client = kiln.client("devel");
    for number in 0..30 {
        create(&client, &format!("devel:t{number}.")).await;
    }
    let devel = Visitor::signed_in(&kiln, "devel").await;
    let first = devel.get("/").await.text;
    assert!(first.contains("devel:t29.") && first.contains("devel:t5.") && !first.contains("devel:t4."), "{first}");
    let begin = first.find("/?cursor=").unwrap();
    let older = devel.get(first[begin..].split('"').next().unwrap()).await.text;
    assert!(older.contains("devel:t4.") && older.contains("devel:t0.") && !older.contains("devel:t5."), "{older}");
    assert!(older.contains("Newest"));
    assert!(devel.get("/?state=active").await.text.contains("devel:t29."));
    let none = devel.get("/?state=failed").await.text;
    assert!(none.contains("None of these") && !none.contains("devel:t29."), "{none}");
    // Another's cursor is none.
    let other = Visitor::signed_in(&kiln, "other").await;
    assert_eq!(other.get(first[begin..].split('"').next().unwrap()).await.status, 400);
    assert!(other.get("/").await.text.contains("Send your first build"));
}
