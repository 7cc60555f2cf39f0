//! A session: the caller's own credential, sealed by the installation's key, in a cookie. Nothing of it is kept
//! here: the credential is proved for every request, as everybody's, and goes with its owner's at the provider.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use secrecy::zeroize::Zeroizing;

use super::same_origin;
use crate::{doors::Door, ledger::Seal};

/// Where there is TLS: browsers take that name over TLS alone, and from no other host.
const SECURE: &str = "__Host-kiln";
const PLAIN: &str = "kiln";
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The longest cookie that browsers keep, name and attributes apart (RFC 6265bis: 4096 with the name).
const LONGEST: usize = 4000;
/// For what the seal is good: nothing else that it sealed is a session.
const CONTEXT: &[u8] = b"a session of the page, 1";

/// Makes and reads sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    seal: Seal,
    lifetime: Duration,
}

/// The credential is longer than a browser keeps.
#[derive(Debug, thiserror::Error)]
#[error("this token is too long for a browser's cookie; use kiln's command line with it")]
pub(super) struct TooLong;

impl Sessions {
    /// Sessions sealed with `seal`, which end after `lifetime`.
    #[must_use]
    pub fn new(seal: Seal, lifetime: Duration) -> Self {
        Self { seal, lifetime }
    }

    /// Turns the cookie of a request into the credential that it stands for, where it counts, so that whoever
    /// proves callers needn't know of cookies. Nothing below sees the cookie.
    pub fn take_up<B>(&self, door: Door, mut request: Request<B>) -> Request<B> {
        if !request.headers().contains_key(header::COOKIE) {
            return request;
        }
        let credential = self.credential(door, &request);
        request.headers_mut().remove(header::COOKIE);
        if let Some(credential) = credential {
            request.headers_mut().insert(header::AUTHORIZATION, credential);
        }
        request
    }

    fn credential<B>(&self, door: Door, request: &Request<B>) -> Option<HeaderValue> {
        let headers = request.headers();
        // Whoever shows a credential means that one.
        if headers.contains_key(header::AUTHORIZATION) || !same_origin::may_use_cookie(door, request) {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(cookie(headers)?).ok()?;
        let plain = Zeroizing::new(self.seal.open_sealed(CONTEXT, &sealed).ok()?);
        let (until, credential) = plain.split_first_chunk()?;
        let until = UNIX_EPOCH + Duration::from_secs(u64::from_be_bytes(*until));
        let mut credential = HeaderValue::from_bytes(credential).ok().filter(|_| SystemTime::now() < until)?;
        credential.set_sensitive(true);
        Some(credential)
    }

    /// The cookie of a credential that was proved, until `expires` at most.
    pub(super) fn begin(
        &self,
        credential: &str,
        expires: Option<SystemTime>,
        secure: bool,
    ) -> Result<HeaderValue, TooLong> {
        let now = SystemTime::now();
        let left = expires.map(|expires| expires.duration_since(now).unwrap_or_default());
        let lasts = left.map_or(self.lifetime, |left| left.min(self.lifetime)).as_secs();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut plain = Zeroizing::new(Vec::with_capacity(8 + credential.len()));
        plain.extend_from_slice(&(since + lasts).to_be_bytes());
        plain.extend_from_slice(credential.as_bytes());
        let sealed = self.seal.seal(CONTEXT, &plain).map_err(|_| TooLong)?;
        let value = BASE64_URL_SAFE_NO_PAD.encode(sealed);
        if value.len() > LONGEST {
            return Err(TooLong);
        }
        HeaderValue::try_from(set_cookie(&value, lasts, secure)).map_err(|_| TooLong)
    }
}

/// The cookies that end a session.
pub(super) fn end() -> [(HeaderName, HeaderValue); 2] {
    const GONE: [&str; 2] = [
        "__Host-kiln=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure",
        "kiln=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict",
    ];
    GONE.map(|gone| (header::SET_COOKIE, HeaderValue::from_static(gone)))
}

/// Whether the caller's browser speaks TLS: it names its page's origin with each form, and a proxy may say so.
/// Anybody may claim it; who does so without it gets a cookie that their own browser refuses.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    let begins = |name, with: &str| {
        headers.get(name).is_some_and(|value: &HeaderValue| value.as_bytes().starts_with(with.as_bytes()))
    };
    begins(header::ORIGIN, "https://") || begins(FORWARDED_PROTO, "https")
}

fn set_cookie(value: &str, seconds: u64, secure: bool) -> String {
    let (name, secure) = if secure { (SECURE, "; Secure") } else { (PLAIN, "") };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// The session's cookie. Behind TLS it is the one that nobody but Kiln can have set.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs: Vec<_> = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('=')).collect();
    let named = |name| pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    named(SECURE).or_else(|| if is_secure(headers) { None } else { named(PLAIN) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(lifetime: Duration) -> (Sessions, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Sessions::new(Seal::open(folder.path()).unwrap(), lifetime), folder)
    }

    fn pair(cookie: &HeaderValue) -> String {
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    fn shown(sessions: &Sessions, cookie: &str, more: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::builder().uri("/").header("cookie", cookie);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let request = sessions.take_up(Door::Page, request.body(()).unwrap());
        assert!(!request.headers().contains_key("cookie"));
        let credential = request.headers().get("authorization")?;
        Some(credential.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_stands_for_the_credential_that_it_was_made_of() {
        let (sessions, _folder) = sessions(Duration::from_secs(60));
        let cookie = sessions.begin("u:k", None, false).unwrap();
        let text = cookie.to_str().unwrap();
        assert!(text.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"), "{text}");
        assert!(!text.contains("u:k"));
        let good = pair(&cookie);
        for (cookie, more, credential) in [
            (good.clone(), &[][..], Some("u:k")),
            (format!("a=b; {good}; c=d"), &[], Some("u:k")),
            // Of two, the caller means the one that they show.
            (good.clone(), &[("authorization", "other:key")], Some("other:key")),
            // Behind TLS anybody on the way, or beside the host, may have set the plain one.
            (good.clone(), &[("x-forwarded-proto", "https")], None),
            (format!("__Host-{good}"), &[("x-forwarded-proto", "https")], Some("u:k")),
            (good.clone(), &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], None),
            (good.replacen('=', "=A", 1), &[], None),
            (format!("{good}A"), &[], None),
            ("kiln=".to_owned(), &[], None),
            ("kiln".to_owned(), &[], None),
        ] {
            assert_eq!(shown(&sessions, &cookie, more).as_deref(), credential, "{cookie} {more:?}");
        }
        let secure = sessions.begin("u:k", None, true).unwrap();
        let text = secure.to_str().unwrap();
        assert!(text.starts_with("__Host-kiln=") && text.ends_with("; SameSite=Strict; Secure"), "{text}");
    }

    #[test]
    fn it_ends_in_time_and_with_the_credential_and_is_nobody_elses_seal() {
        let (sessions, folder) = sessions(Duration::from_secs(3600));
        let soon = SystemTime::now() + Duration::from_secs(30);
        let cookie = sessions.begin("u:k", Some(soon), false).unwrap();
        assert!(cookie.to_str().unwrap().contains("; Max-Age=29;") || cookie.to_str().unwrap().contains("=30;"));
        let over = sessions.begin("u:k", Some(SystemTime::now()), false).unwrap();
        assert_eq!(shown(&sessions, &pair(&over), &[]), None);
        let seal = Seal::open(folder.path()).unwrap();
        let other = seal.seal(b"devel", &[&u64::MAX.to_be_bytes()[..], b"u:k"].concat()).unwrap();
        assert_eq!(shown(&sessions, &format!("kiln={}", BASE64_URL_SAFE_NO_PAD.encode(other)), &[]), None);
        assert!(sessions.begin(&"k".repeat(4000), None, false).is_err());
    }
}
