//! The door's routes and their OpenAPI document, which come from one place: neither can say what the other doesn't.
//!
//! A handler has `#[utoipa::path(post, path = "/v1/…", params(…), request_body = …, responses((status = 200, body = …),
//! (status = 404, description = "no such build")))]`, its bodies derive `ToSchema` and its queries `IntoParams`, and
//! [`Routes::add`] takes it. What the guard answers, the problem in every refusal and the fields of the rate are added here.

use axum::{
    Router,
    extract::{Request, State},
    response::IntoResponse as _,
    routing::{MethodRouter, get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use tower::ServiceExt as _;
use utoipa::{
    ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, Header, InfoBuilder, License, ObjectBuilder, OpenApi, OpenApiBuilder, Ref,
        RefOr, Response, ResponseBuilder, Schema, Type,
        path::{Operation, Parameter, PathItem},
        schema::SchemaType,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::{admission::Class, doors::native::Native, stack::Guard};

/// Where the document is.
pub const PATH: &str = "/openapi.json";
const PROBLEM: &str = "application/problem+json";
/// How a token may be shown: the words of the schemes.
const SCHEMES: [&str; 3] = ["bare", "basic", "bearer"];
/// What the guard answers before a handler is asked.
const BY_GUARD: [(u16, &str); 4] = [
    (401, "the token is missing, or isn't one"),
    (429, "too often, or too much at once"),
    (500, "a fault of Kiln's own"),
    (503, "too busy, or stopping"),
];
/// And of a body.
const BY_BODY: [(u16, &str); 2] = [(408, "the body took too long to arrive"), (413, "the body is too long")];

/// Routes behind a guard, and what is said of them.
pub(super) struct Routes<'g> {
    guard: &'g Guard,
    router: OpenApiRouter<Native>,
}

/// Why a request wasn't answered as it was meant: RFC 9457.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of what `rescue::problem` writes")]
struct Problem {
    /// Always `about:blank`: the status says which problem it is.
    r#type: String,
    /// The status, once more.
    status: u16,
    /// A sentence for people: what, why, and what next.
    title: String,
    /// One word, where several problems have the same status.
    #[schema(nullable = false)]
    reason: Option<String>,
    /// The other tags of an image, where they are in the way.
    #[schema(nullable = false)]
    tags: Option<Vec<String>>,
}

impl<'g> Routes<'g> {
    pub(super) fn behind(guard: &'g Guard) -> Self {
        Self { guard, router: OpenApiRouter::with_openapi(frame()) }
    }

    /// Adds what `routes!` makes of one path's handlers, all of one class.
    pub(super) fn add(self, class: Class, (schemas, paths, route): UtoipaMethodRouter<Native>) -> Self {
        let route = self.guard.protect(class, route);
        self.described((schemas, paths, route))
    }

    /// Adds a path's `POST` that does one thing for bodies in JSON and another for archives; `route` describes both.
    pub(super) fn add_either(
        self,
        class: Class,
        route: UtoipaMethodRouter<Native>,
        is_archive: fn(&HeaderMap) -> bool,
        archive: MethodRouter<Native>,
    ) -> Self {
        let (schemas, paths, json) = route;
        let json = self.guard.protect(class, json);
        let archive = self.guard.protect(Class::Archive, archive);
        // Chosen above both guards: what a body may take of time and places, it takes from its own class.
        let either = post(move |State(native): State<Native>, request: Request| {
            let route = if is_archive(request.headers()) { archive.clone() } else { json.clone() };
            async move { route.with_state(native).oneshot(request).await }
        });
        self.described((schemas, paths, either))
    }

    fn described(mut self, (schemas, mut paths, route): UtoipaMethodRouter<Native>) -> Self {
        paths.paths.values_mut().flat_map(operations).for_each(describe);
        self.router = self.router.routes((schemas, paths, route));
        self
    }

    /// The routes, and the one that shows their document.
    pub(super) fn with_document(self) -> (Router<Native>, OpenApi) {
        let (router, mut document) = self.router.split_for_parts();
        // The router's word for the rest of a path. OpenAPI has none; there its slashes are %2F, which is the same here.
        document.paths.paths =
            document.paths.paths.into_iter().map(|(path, item)| (as_templated(&path), item)).collect();
        let json = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (router.route(PATH, get(async move || (kind, json).into_response())), document)
    }
}

fn as_templated(path: &str) -> String {
    path.replace("{*", "{")
}

/// The document without a route.
fn frame() -> OpenApi {
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    let info = InfoBuilder::new().title("Kiln").version(env!("CARGO_PKG_VERSION")).license(Some(license));
    let info =
        info.description(Some("A multi-tenant image-build gateway: what to build goes in, an OCI image comes out."));
    let bare = ApiKeyValue::with_description("Authorization", "the wsk token, `user:key`, as it is");
    let http = |scheme, text: &str| {
        let mut http = Http::new(scheme);
        http.description = Some(text.to_owned());
        SecurityScheme::Http(http)
    };
    let [bare_name, basic, bearer] = SCHEMES;
    let components = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .security_scheme(bare_name, SecurityScheme::ApiKey(ApiKey::Header(bare)))
        .security_scheme(basic, http(HttpAuthScheme::Basic, "the wsk token, as user and password"))
        .security_scheme(bearer, http(HttpAuthScheme::Bearer, "a signed token, where the gateway takes such"));
    OpenApiBuilder::new().info(info.build()).components(Some(components.build())).build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Adds to a handler's answers the guard's, and to all of them what all have.
fn describe(operation: &mut Operation) {
    operation.security = Some(SCHEMES.map(|name| SecurityRequirement::new(name, [""; 0])).into());
    operation.parameters.iter_mut().flatten().for_each(never_null);
    let by_body = BY_BODY.iter().filter(|_| operation.request_body.is_some());
    let answers = &mut operation.responses.responses;
    for (status, text) in BY_GUARD.iter().chain(by_body) {
        let answer = || RefOr::T(ResponseBuilder::new().description(*text).build());
        answers.entry(status.to_string()).or_insert_with(answer);
    }
    for (status, answer) in answers {
        if let RefOr::T(answer) = answer {
            complete(status, answer);
        }
    }
}

/// A parameter may be left out, but is text where it is there.
fn never_null(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(Parameter { schema: Some(RefOr::T(schema)), .. }) = parameter else { return };
    let kind = match schema {
        Schema::Object(object) => &mut object.schema_type,
        Schema::Array(array) => &mut array.schema_type,
        _ => return,
    };
    if let SchemaType::Array(kinds) = kind {
        kinds.retain(|kind| *kind != Type::Null);
    }
}

/// What the answers of a status have in common.
fn complete(status: &str, answer: &mut Response) {
    if status >= "400" && answer.content.is_empty() {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        answer.content.insert(PROBLEM.to_owned(), problem.build().into());
    }
    let mut field = |name: &str, kind, text: &str| {
        let schema = ObjectBuilder::new().schema_type(kind);
        let mut header = Header::new(schema.build());
        header.description = Some(text.to_owned());
        answer.headers.insert(name.to_owned(), RefOr::T(header));
    };
    // Whose rate it would be is known once the token is.
    if status != "401" {
        field("RateLimit", Type::String, "what is left of the caller's rate: draft-ietf-httpapi-ratelimit-headers-10");
        field("RateLimit-Policy", Type::String, "the caller's rate");
    }
    if ["429", "503"].contains(&status) {
        field("Retry-After", Type::Integer, "seconds until it is worth another try");
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use kiln_auth::{Providers, ScopeCheck};

    use super::*;
    use crate::{admission::Admission, config::Limits, doors::native::described};

    fn door() -> (Router<Native>, OpenApi) {
        let nobody = Providers::new(Vec::new(), ScopeCheck::default());
        described(&Guard::new(Arc::new(nobody), Admission::new(&Limits::default())))
    }

    /// The router tells its paths only to who debugs it.
    #[test]
    fn every_route_is_in_the_document() {
        let (router, document) = door();
        let shown = format!("{router:?}");
        let routed: BTreeSet<_> = shown.split('"').filter(|text| text.starts_with("/v1")).map(as_templated).collect();
        assert!(routed.contains("/v1/builds/{id}/log"), "its paths aren't there any more: {shown}");
        let described: BTreeSet<_> = document.paths.paths.keys().cloned().collect();
        assert_eq!(routed, described, "routes are added with Routes::add alone");
    }

    #[test]
    fn every_operation_says_who_may_call_and_what_a_refusal_looks_like() {
        let document = serde_json::to_value(door().1).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let what = format!("{method} {path}");
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{what}: its id is another's"
                );
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{what}: says nothing");
                assert_eq!(operation["security"].as_array().unwrap().len(), SCHEMES.len(), "{what}");
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.keys().any(|status| status.starts_with('2')), "{what}: never succeeds");
                for (status, answer) in answers.iter().filter(|(status, _)| status.as_str() >= "400") {
                    assert!(answer["content"][PROBLEM].is_object(), "{what}: {status} is no problem");
                }
                assert!(answers["429"]["headers"]["Retry-After"].is_object(), "{what}");
            }
        }
    }
}
