//! Whether a request comes from Kiln's own page, as its browser tells: no other site's page, and no other
//! port's of the same host, gets a browser to act in its user's name.

use http::{HeaderMap, HeaderName, Method, Request, header};

use crate::doors::Door;

/// What the page's script adds to its own fetches. Another origin's script may add it after a preflight only,
/// which no door but OpenServerless's answers.
pub(super) const SCRIPT: HeaderName = HeaderName::from_static("x-kiln-page");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether the cookie counts for this request.
pub(super) fn may_use_cookie<B>(door: Door, request: &Request<B>) -> bool {
    let headers = request.headers();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match door {
        Door::Page if reads => match text(headers, &FETCH_SITE) {
            None | Some("same-origin" | "none") => true,
            // A link on another page, which is followed; not an image of it, nor a script.
            Some(_) => text(headers, &FETCH_MODE) == Some("navigate"),
        },
        Door::Page => from_page(request),
        // The API is asked by the page's script alone, which reads builds and their logs.
        Door::Native => reads && headers.contains_key(SCRIPT) && !from_elsewhere(request),
        Door::OpenServerless | Door::OpenFaas | Door::Plain => false,
    }
}

/// Whether a form was sent from the page: its browser says so, or names the page's own origin.
pub(super) fn from_page<B>(request: &Request<B>) -> bool {
    match text(request.headers(), &FETCH_SITE) {
        Some(site) => site == "same-origin",
        // Older browsers, and all where there is no TLS.
        None => is_own_origin(request) == Some(true),
    }
}

/// Whether it says of itself that another page is behind it.
fn from_elsewhere<B>(request: &Request<B>) -> bool {
    let site = text(request.headers(), &FETCH_SITE);
    site.is_some_and(|site| site != "same-origin") || is_own_origin(request) == Some(false)
}

/// `None` where no origin is named.
fn is_own_origin<B>(request: &Request<B>) -> Option<bool> {
    let origin = request.headers().get(header::ORIGIN)?.to_str().unwrap_or_default();
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    Some(authority.is_some_and(|authority| host(request).is_some_and(|host| host.eq_ignore_ascii_case(authority))))
}

/// The host that was asked, with its port.
pub(super) fn host<B>(request: &Request<B>) -> Option<&str> {
    let named = || text(request.headers(), &header::HOST);
    request.uri().authority().map(|authority| authority.as_str()).or_else(named)
}

/// A header's value, where there is one alone and it is plain.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(value.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => Some(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &[(&str, &str)] = &[("x-kiln-page", "1")];

    fn counts(method: Method, door: Door, headers: &[&[(&str, &str)]]) -> bool {
        let mut request = Request::builder().method(method).uri("/x").header("host", "kiln.example:8443");
        for (name, value) in headers.iter().flat_map(|headers| headers.iter()) {
            request = request.header(*name, *value);
        }
        may_use_cookie(door, &request.body(()).unwrap())
    }

    #[test]
    fn a_form_counts_from_the_page_alone() {
        for (headers, from_page) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://kiln.example:8443")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://kiln.example:8443")], false),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
            (&[("origin", "https://kiln.example:8443")], true),
            (&[("origin", "http://KILN.example:8443")], true),
            (&[("origin", "https://kiln.example")], false),
            (&[("origin", "https://kiln.example:8443.evil.example")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            assert_eq!(counts(Method::POST, Door::Page, &[headers]), from_page, "{headers:?}");
        }
    }

    #[test]
    fn a_page_is_read_by_its_own_and_by_whoever_follows_a_link() {
        for (headers, read) in [
            (&[][..], true),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], true),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")], true),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], false),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")], false),
        ] {
            assert_eq!(counts(Method::GET, Door::Page, &[headers]), read, "{headers:?}");
        }
    }

    #[test]
    fn the_api_takes_the_cookie_of_reads_by_the_pages_script_alone() {
        for (method, headers, taken) in [
            (Method::GET, &[][..], true),
            (Method::GET, &[("sec-fetch-site", "same-origin")], true),
            (Method::GET, &[("origin", "http://kiln.example:8443")], true),
            (Method::GET, &[("sec-fetch-site", "same-site")], false),
            (Method::GET, &[("sec-fetch-site", "cross-site")], false),
            (Method::GET, &[("sec-fetch-site", "none")], false),
            (Method::GET, &[("origin", "http://kiln.example:3000")], false),
            (Method::GET, &[("origin", "null")], false),
            (Method::POST, &[("sec-fetch-site", "same-origin")], false),
            (Method::DELETE, &[("sec-fetch-site", "same-origin")], false),
        ] {
            assert_eq!(counts(method.clone(), Door::Native, &[PAGE, headers]), taken, "{method} {headers:?}");
            assert!(!counts(method, Door::Native, &[headers]), "without the script's header");
        }
        for door in [Door::OpenServerless, Door::OpenFaas, Door::Plain] {
            assert!(!counts(Method::GET, door, &[PAGE, &[("sec-fetch-site", "same-origin")]]), "{door:?}");
        }
    }
}
