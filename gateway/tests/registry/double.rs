//! A registry with a token service, in this process: records what it is sent, and answers as it is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use kiln_gateway::registry::Host;
use serde_json::{Value, json};

use crate::fixture::{MANIFEST, configuration, digest_of, image};

/// What a double answers for a path below `/v2/`.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

#[derive(Default)]
struct Script {
    answers: HashMap<String, Answer>,
    /// The token service, where there is one; else everything is open.
    realm: Option<String>,
    seen: Vec<Seen>,
    tokens: usize,
}

#[derive(Clone)]
pub(crate) struct Double {
    pub(crate) host: Host,
    script: Arc<Mutex<Script>>,
}

impl Answer {
    pub(crate) fn ok(media_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, headers: vec![("content-type", media_type.to_owned())], body: body.into() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Double {
    /// An empty registry that is open to all.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let double = Self { host, script: Arc::default() };
        let router = Router::new().fallback(any(serve)).with_state(double.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        double
    }

    /// From now on it wants tokens of its own token service.
    pub(crate) fn want_tokens(&self) -> String {
        let realm = format!("http://{}/token", self.host);
        self.want_tokens_of(&realm);
        realm
    }

    /// From now on it wants tokens, and names `realm` as where they are to be had.
    pub(crate) fn want_tokens_of(&self, realm: &str) {
        self.with(|script| script.realm = Some(realm.to_owned()));
    }

    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.with(|script| script.answers.insert(format!("/v2/{path}"), answer));
    }

    /// Has an image under `repository:tag`; returns its digest.
    pub(crate) fn has_image(&self, repository: &str, tag: &str) -> String {
        let config = serde_json::to_vec(&configuration("linux/amd64", "nobody")).unwrap();
        let descriptor: Value = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(&config), "size": config.len(),
        });
        let manifest = serde_json::to_vec(&image(&descriptor)).unwrap();
        let digest = digest_of(&manifest);
        self.answer(
            &format!("{repository}/blobs/{}", digest_of(&config)),
            Answer::ok("application/octet-stream", config),
        );
        for reference in [tag, &digest] {
            let answer = Answer::ok(MANIFEST, manifest.clone()).header("docker-content-digest", &digest);
            self.answer(&format!("{repository}/manifests/{reference}"), answer);
        }
        digest
    }

    /// Forgets the tokens it has given, as if they had run out.
    pub(crate) fn forget_tokens(&self) {
        self.with(|script| script.tokens += 1000);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.with(|script| script.seen.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(State(double): State<Double>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let authorization = text(&parts.headers, "authorization");
    double.with(|script| {
        script.seen.push(Seen {
            method: parts.method.to_string(),
            uri: parts.uri.to_string(),
            authorization: authorization.clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        if parts.uri.path() == "/token" { script.give_token() } else { script.answer(&parts.uri, &authorization) }
    })
}

impl Script {
    fn give_token(&mut self) -> Response {
        self.tokens += 1;
        Json(json!({"token": format!("token-{}", self.tokens), "expires_in": 300})).into_response()
    }

    fn answer(&self, uri: &Uri, authorization: &str) -> Response {
        if let Some(realm) = &self.realm
            && authorization != format!("Bearer token-{}", self.tokens)
        {
            let challenge = format!(r#"Bearer realm="{realm}",service="double",scope="repository:whatever:pull""#);
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
        }
        match self.answers.get(uri.path()) {
            Some(Answer { status, headers, body }) => {
                let headers: HeaderMap =
                    headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
                (*status, headers, body.clone()).into_response()
            }
            None if uri.path() == "/v2/" => StatusCode::OK.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
