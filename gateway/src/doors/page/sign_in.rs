//! Signing in and out: a token is proved as everybody's is, and then kept in a cookie.

use std::time::SystemTime;

use askama::Template;
use axum::{
    Extension, Form, Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest as _, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use kiln_auth::{Identity, Origin, audit};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    Page,
    answer::{Frame, Here, html, see},
    fault::Fault,
    same_origin, session,
};
use crate::{admission::Class, stack::Guard};

const SIGN_IN: &str = "/sign-in";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame,
    to: &'a str,
    /// What is wrong, or to be known.
    word: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "again.html")]
struct AgainPage<'a> {
    frame: Frame,
    to: &'a str,
}

#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// Where to go on, a path of this page.
    #[serde(default)]
    to: String,
}

#[derive(Debug, Deserialize)]
struct Shown {
    token: SecretString,
    #[serde(default)]
    to: String,
}

/// Until when the credential is good by itself.
#[derive(Clone, Copy)]
struct Proved(Option<SystemTime>);

/// What somebody asked for who may have to sign in first.
pub(super) struct Asked {
    path: Option<String>,
    by_script: bool,
    from_elsewhere: bool,
}

pub(super) fn routes(page: &Page, guard: &Guard) -> Router<Page> {
    // The guard proves the form's token as it does all; what is around it puts it where the guard looks.
    let proving: MethodRouter<Page> = guard.protect(Class::Read, post(proved));
    let proving: MethodRouter<Page> = proving.layer(middleware::from_fn_with_state(page.clone(), by_form));
    let proving = proving.layer(DefaultBodyLimit::max(Class::Read.body_at_most()));
    Router::new()
        .route(SIGN_IN, get(form))
        .route(SIGN_IN, guard.receive(Class::Read, proving))
        .route("/sign-out", post(sign_out))
}

async fn form(Query(wanted): Query<Wanted>) -> Response {
    let frame = Frame::of_anybody(Here::Elsewhere);
    html(StatusCode::OK, &SignInPage { frame, to: own_path(&wanted.to), word: None })
}

/// Has the form's token proved, and keeps it if it is.
async fn by_form(State(page): State<Page>, request: Request, next: Next) -> Response {
    if !same_origin::from_page(&request) {
        return Fault::elsewhere().into_response();
    }
    let secure = session::is_secure(request.headers());
    let (parts, body) = request.into_parts();
    let read = Form::<Shown>::from_request(Request::from_parts(parts.clone(), body), &()).await;
    let Ok(Form(shown)) = read else { return refused(StatusCode::BAD_REQUEST, "/", "Enter a token.") };
    let to = own_path(&shown.to);
    let credential = credential(&shown.token);
    let Ok(mut value) = HeaderValue::from_str(credential.expose_secret()) else {
        return refused(StatusCode::BAD_REQUEST, to, "That is no token: it has characters that none has.");
    };
    value.set_sensitive(true);
    let mut asked = Request::from_parts(parts, Body::empty());
    asked.headers_mut().insert(header::AUTHORIZATION, value);
    let answer = next.run(asked).await;
    let Some(Proved(expires)) = answer.extensions().get().copied() else {
        return not_proved(answer, to);
    };
    match page.sessions.begin(credential.expose_secret(), expires, secure) {
        Ok(cookie) => {
            let mut answer = see(to);
            answer.headers_mut().insert(header::SET_COOKIE, cookie);
            answer
        }
        Err(too_long) => refused(StatusCode::BAD_REQUEST, to, &too_long.to_string()),
    }
}

async fn proved(Extension(identity): Extension<Identity>, Extension(origin): Extension<Origin>) -> Response {
    audit::Line::by("sign-in", identity.user()).from(origin).done();
    Extension(Proved(identity.expires())).into_response()
}

/// The token as it would stand in a header. A bare JWT is shown as `Bearer`: nobody types that.
fn credential(token: &SecretString) -> SecretString {
    let token = token.expose_secret().trim();
    let is_jwt = token.starts_with("eyJ") && token.matches('.').count() == 2 && !token.contains(':');
    if is_jwt { format!("Bearer {token}").into() } else { token.into() }
}

/// What the guard answered to a token, as a word beside the form.
fn not_proved(answer: Response, to: &str) -> Response {
    let word = match answer.status() {
        StatusCode::UNAUTHORIZED => "That token was refused. See that it is whole, and still good.",
        StatusCode::TOO_MANY_REQUESTS => "Too many attempts from here; try again later.",
        _ => "That can't be proved at the moment; try again.",
    };
    let mut response = refused(answer.status(), to, word);
    if let Some(after) = answer.headers().get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, after.clone());
    }
    response
}

fn refused(status: StatusCode, to: &str, word: &str) -> Response {
    html(status, &SignInPage { frame: Frame::of_anybody(Here::Elsewhere), to, word: Some(word) })
}

async fn sign_out(request: Request) -> Response {
    if !same_origin::from_page(&request) {
        return Fault::elsewhere().into_response();
    }
    (axum::response::AppendHeaders(session::end()), see(SIGN_IN)).into_response()
}

pub(super) fn asked(request: &Request) -> Asked {
    let navigates = request.headers().get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    let elsewhere = request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let path = request.uri().path_and_query().filter(|_| request.method() == Method::GET);
    Asked {
        path: path.map(|path| path.as_str().to_owned()),
        by_script: request.headers().contains_key(same_origin::SCRIPT),
        from_elsewhere: navigates && elsewhere,
    }
}

/// Has whoever isn't known sign in first.
pub(super) fn or_sign_in(asked: Asked, came: Result<Response, std::convert::Infallible>) -> Response {
    let Ok(answer) = came;
    if answer.status() != StatusCode::UNAUTHORIZED || asked.by_script {
        return answer;
    }
    let path = asked.path.as_deref().unwrap_or("/");
    // Who follows another site's link brings no cookie; asked for again by this page, they do.
    if asked.from_elsewhere && asked.path.is_some() {
        return html(StatusCode::OK, &AgainPage { frame: Frame::of_anybody(Here::Elsewhere), to: own_path(path) });
    }
    let to = utf8_percent_encode(path, NON_ALPHANUMERIC);
    (axum::response::AppendHeaders(session::end()), see(&format!("{SIGN_IN}?to={to}"))).into_response()
}

/// A path of this page, or its root: nobody is sent elsewhere.
fn own_path(to: &str) -> &str {
    let own = |uri: Uri| {
        uri.authority().is_none() && super::has(&uri, true) && !["/sign-in", "/sign-out"].contains(&uri.path())
    };
    if to.parse().is_ok_and(own) { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signs_in_goes_on_within_the_page() {
        for (to, goes) in [
            ("/", "/"),
            ("/?state=failed", "/?state=failed"),
            ("/builds/0198", "/builds/0198"),
            ("/images/u/app:v1", "/images/u/app:v1"),
            ("", "/"),
            ("//evil.example", "/"),
            ("//evil.example/builds/", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example/builds/x", "/"),
            ("javascript:alert(1)", "/"),
            ("/sign-out", "/"),
            ("/v1/builds", "/"),
            ("/builds/\r\nSet-Cookie: a=b", "/"),
        ] {
            assert_eq!(own_path(to), goes, "{to:?}");
        }
    }

    #[test]
    fn a_bare_jwt_is_shown_as_bearer_and_all_else_as_it_is() {
        for (token, shown) in [
            (" u:k\n", "u:k"),
            ("Basic dTpr", "Basic dTpr"),
            ("eyJhbGciOiJub25lIn0.e30.x", "Bearer eyJhbGciOiJub25lIn0.e30.x"),
            ("Bearer eyJhbGciOiJub25lIn0.e30.x", "Bearer eyJhbGciOiJub25lIn0.e30.x"),
        ] {
            assert_eq!(credential(&token.into()).expose_secret(), shown);
        }
    }
}
