//! What other sites' pages, and other ports' of the same host, can have a visitor's browser do: nothing.

use reqwest::Method;

use crate::{create, idle, visitor::Visitor};

/// What browsers say of requests that other pages are behind.
const ELSEWHERE: [&[(&str, &str)]; 6] = [
    &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
    &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")],
    &[("sec-fetch-site", "none")],
    &[("origin", "https://evil.example")],
    &[("origin", "null")],
    // Nor does whoever says nothing.
    &[],
];

#[tokio::test]
async fn no_form_from_elsewhere_does_anything() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:t").await;
    let devel = Visitor::signed_in(&kiln, "devel").await;
    for headers in ELSEWHERE {
        for path in [&format!("/builds/{id}/cancel"), &format!("/builds/{id}/retry"), "/images/devel:t"] {
            let answer = devel.post(path, &[], headers).await;
            // The cookie doesn't count, so nobody is signed in.
            assert_eq!(answer.status, 303, "{path} {headers:?}");
            assert!(answer.header("location").starts_with("/sign-in"), "{path} {headers:?}");
        }
        // Nor does one sign somebody in, as somebody else, or out.
        let fields = [("token", kiln.token("other")), ("to", "/")];
        for (path, fields) in [("/sign-in", &fields[..]), ("/sign-out", &[])] {
            let answer = devel.post(path, fields, headers).await;
            assert_eq!((answer.status.as_u16(), answer.header("set-cookie")), (403, ""), "{path} {headers:?}");
        }
    }
    assert_eq!(kiln.client("devel").build(&id).await["state"], "queued");
    let own = [("origin", kiln.url.as_str())];
    let answer = devel.post(&format!("/builds/{id}/cancel"), &[], &own).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, format!("/builds/{id}").as_str()));
    assert_eq!(kiln.client("devel").build(&id).await["state"], "cancelled");
}

#[tokio::test]
async fn a_credential_in_a_header_opens_no_form_from_elsewhere_either() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:t").await;
    for headers in ELSEWHERE {
        let with_token = [headers, &[("authorization", kiln.token("devel"))]].concat();
        for path in [&format!("/builds/{id}/cancel"), "/images/devel:t"] {
            let answer = Visitor::of(&kiln).post(path, &[], &with_token).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
        }
    }
    assert_eq!(kiln.client("devel").build(&id).await["state"], "queued");
}

#[tokio::test]
async fn the_cookie_opens_the_api_to_the_pages_own_reads_alone() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:t").await;
    let devel = Visitor::signed_in(&kiln, "devel").await;
    let build = format!("/v1/builds/{id}");
    let script = ("x-kiln-page", "1");
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
        let request = devel.request(method, path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        devel.send(request).await.status.as_u16()
    };
    for (headers, status) in [
        (&[script][..], 200),
        (&[script, ("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "same-origin")], 401),
        (&[], 401),
        (&[script, ("sec-fetch-site", "same-site")], 401),
        (&[script, ("sec-fetch-site", "cross-site")], 401),
        (&[script, ("origin", "https://evil.example")], 401),
        (&[script, ("origin", "null")], 401),
    ] {
        for path in [&build, &format!("{build}/log"), "/v1/builds", "/v1/whoami"] {
            assert_eq!(ask(Method::GET, path, headers).await, status, "{path} {headers:?}");
        }
    }
    let good = [script, ("sec-fetch-site", "same-origin")];
    for path in [format!("{build}/cancel"), format!("{build}/retry"), "/v1/builds".to_owned()] {
        assert_eq!(ask(Method::POST, &path, &good).await, 401, "{path}");
    }
    for path in ["/system/api/v1/build/status?id=x", "/api/v1/build/capabilities"] {
        assert_eq!(ask(Method::GET, path, &good).await, 401, "{path}");
    }
    assert_eq!(ask(Method::OPTIONS, &build, &[("access-control-request-headers", "x-kiln-page")]).await, 405);
}

#[tokio::test]
async fn who_follows_a_link_of_another_site_is_let_in_by_asking_again() {
    let kiln = idle().await;
    // A strict cookie isn't sent then.
    let visitor = Visitor::of(&kiln);
    let request = visitor.request(Method::GET, "/builds/x");
    let request = request.header("sec-fetch-site", "cross-site").header("sec-fetch-mode", "navigate");
    let answer = visitor.send(request).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("<meta http-equiv=\"refresh\" content=\"0; url=/builds/x\">"), "{}", answer.text);
}
