//! Who visits the page by HTTP alone: follows no redirect by itself, and has the cookie that was set.

use kiln_conformance_tests::{Kiln, client::Answer};
use reqwest::{Method, RequestBuilder, redirect::Policy};

/// What a browser says of a form of the page's own.
pub(crate) const FROM_PAGE: [(&str, &str); 1] = [("sec-fetch-site", "same-origin")];

#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    http: reqwest::Client,
    url: String,
    /// `name=value`; empty before signing in.
    pub(crate) cookie: String,
}

impl Visitor {
    pub(crate) fn of(kiln: &Kiln) -> Self {
        // As every client of the suites: whoever comes first installs it.
        drop(kiln.anonymous());
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { http, url: kiln.url.clone(), cookie: String::new() }
    }

    pub(crate) async fn signed_in(kiln: &Kiln, user: &str) -> Self {
        let mut visitor = Self::of(kiln);
        let answer = visitor.sign_in(kiln.token(user), "/").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{}", answer.text);
        answer.header("set-cookie").split(';').next().unwrap().clone_into(&mut visitor.cookie);
        visitor
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if self.cookie.is_empty() { request } else { request.header("cookie", &self.cookie) }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("the gateway answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("a body") }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// A form with these fields, sent from where `headers` say.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, path).form(fields);
        self.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    pub(crate) async fn sign_in(&self, token: &str, to: &str) -> Answer {
        self.post("/sign-in", &[("token", token), ("to", to)], &FROM_PAGE).await
    }
}
