//! Answers as HTML, with what keeps browsers from doing more with them than showing them.

use askama::Template;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use kiln_auth::Identity;

use super::assets::{SCRIPT, STYLE};

/// Nothing from elsewhere, nothing inline, no frames around it, and no HTML made by scripts but what the page's
/// own script takes from the page itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types kiln";

/// What stands around each page.
#[derive(Debug)]
pub(super) struct Frame {
    /// Who has signed in.
    pub(super) user: Option<String>,
    /// Which part of the navigation it belongs to.
    pub(super) here: Here,
    pub(super) style: String,
    pub(super) script: String,
}

/// The parts of the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Here {
    /// The list of builds.
    Builds,
    /// The list of images.
    Images,
    /// Something below one of them, or none.
    Elsewhere,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    title: &'a str,
    text: &'a str,
}

impl Frame {
    pub(super) fn of(identity: &Identity, here: Here) -> Self {
        Self { user: Some(identity.user().to_string()), ..Self::of_anybody(here) }
    }

    /// Of a page that says nobody's name.
    pub(super) fn of_anybody(here: Here) -> Self {
        Self { user: None, here, style: STYLE.address(), script: SCRIPT.address() }
    }
}

/// A page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    let Ok(text) = page.render() else {
        tracing::error!("a page can't be rendered");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    const FIELDS: [(HeaderName, &str); 7] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // To Kiln itself: its forms are told by it from others', where there is no TLS.
        (header::REFERRER_POLICY, "same-origin"),
        // What a user has seen isn't seen by the next one at the same screen.
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let mut response = (status, text).into_response();
    for (name, value) in FIELDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An error of any layer.
#[must_use]
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "Nothing here",
        StatusCode::UNAUTHORIZED => "Not signed in",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "Not now",
        status if status.is_server_error() => "Something broke",
        _ => "That can't be done",
    };
    html(status, &ErrorPage { frame: Frame::of_anybody(Here::Elsewhere), title, text })
}

pub(super) async fn no_such_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "This page doesn't take such a request.")
}

/// On to another page, which is read.
pub(super) fn see(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(_) => error(StatusCode::BAD_REQUEST, "That isn't an address of this page."),
    }
}
