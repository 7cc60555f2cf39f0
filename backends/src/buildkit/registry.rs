//! What a registry's refusal means, told from the words in which an engine reports it: engines give
//! no code for it, only Go's and the registry's own text.

use super::failure::Verdict;
use crate::{Failure, Reason, RunError};

/// What was being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action<'a> {
    /// Fetching a base.
    Pull(&'a str),
    /// Sending the image.
    Push(&'a str),
}

/// The kinds of trouble, with the words that show them; the first kind that fits counts.
const TROUBLE: [(Trouble, &[&str]); 4] = [
    (
        Trouble::Certificate,
        &["x509:", "tls: ", "certificate signed by unknown", "server gave HTTP response to HTTPS client"],
    ),
    (
        Trouble::Refused,
        &[
            "401 Unauthorized",
            "403 Forbidden",
            "insufficient_scope",
            "authorization failed",
            "no basic auth credentials",
            "authentication required",
            "access to the resource is denied",
            "pull access denied",
            "failed to authorize",
            "no token for ",
            "denied: ",
            "unauthorized: ",
        ],
    ),
    (
        Trouble::Passing,
        &[
            "connection refused",
            "connection reset",
            "broken pipe",
            "i/o timeout",
            "TLS handshake timeout",
            "Client.Timeout exceeded",
            "no such host",
            "server misbehaving",
            "network is unreachable",
            "no route to host",
            "unexpected EOF",
            ": EOF",
            "429 Too Many Requests",
            "toomanyrequests",
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
            "http2: server sent GOAWAY",
        ],
    ),
    (Trouble::Absent, &["not found", "404 Not Found", "manifest unknown", "name unknown", "NAME_UNKNOWN"]),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    Certificate,
    Refused,
    Passing,
    Absent,
}

/// What `text` means, if it speaks of a registry at all.
pub(crate) fn judge(action: Action<'_>, text: &str) -> Option<Verdict> {
    let (trouble, _) = TROUBLE.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)))?;
    let fail = |reason, message: String| Verdict::Final(RunError::Build(Failure::new(reason, message)));
    Some(match (action, trouble) {
        (Action::Pull(what), Trouble::Refused) => fail(
            Reason::BaseForbidden,
            format!("{what} can't be pulled: its registry wants credentials that may read it"),
        ),
        (Action::Pull(what), Trouble::Absent) => {
            fail(Reason::BaseNotFound, format!("{what} doesn't exist: check its name and its tag"))
        }
        (Action::Push(what), Trouble::Refused) => fail(
            Reason::PushDenied,
            format!("the registry refused the push to {what}: its credentials are missing or may not write there"),
        ),
        (Action::Push(what), Trouble::Absent) => {
            fail(Reason::PushDenied, format!("the registry knows no repository {what}, and doesn't make one by a push"))
        }
        (Action::Pull(what) | Action::Push(what), Trouble::Certificate) => fail(
            Reason::RegistryUnavailable,
            format!(
                "the engine doesn't trust the registry of {what}: it needs the registry's certificate authority, \
                     or must be told that it speaks plain HTTP"
            ),
        ),
        (Action::Pull(what) | Action::Push(what), Trouble::Passing) => Verdict::Registry(Failure::new(
            Reason::RegistryUnavailable,
            format!("the registry of {what} did not answer, or answered with an error of its own"),
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(action: Action<'_>, text: &str) -> Option<(Reason, bool)> {
        judge(action, text).map(|verdict| match verdict {
            Verdict::Registry(failure) => (failure.reason, true),
            Verdict::Final(RunError::Build(failure)) => (failure.reason, false),
            Verdict::Final(other) => panic!("{other}"),
        })
    }

    #[test]
    fn engines_words_become_reasons() {
        let (pull, push) = (Action::Pull("r/b:1"), Action::Push("r/u/x"));
        for (action, text, expected) in [
            (pull, "r/b:1: failed to resolve source metadata for r/b:1: r/b:1: not found", Reason::BaseNotFound),
            (
                pull,
                "unexpected status from HEAD request to http://r/v2/b/manifests/1: 401 Unauthorized",
                Reason::BaseForbidden,
            ),
            (pull, "pull access denied, repository does not exist or may require authorization", Reason::BaseForbidden),
            (
                push,
                "failed to push r/u/x: unexpected status from HEAD request to x: 401 Unauthorized",
                Reason::PushDenied,
            ),
            (
                push,
                "failed to push r/u/x: server message: insufficient_scope: authorization failed",
                Reason::PushDenied,
            ),
            (push, "denied: requested access to the resource is denied", Reason::PushDenied),
            (push, "name unknown: project u not found", Reason::PushDenied),
            (
                push,
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                Reason::RegistryUnavailable,
            ),
        ] {
            assert_eq!(reason(action, text), Some((expected, false)), "{text}");
        }
        for text in [
            "failed to do request: Head \"https://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            "unexpected status from PUT request to http://r/v2/u/x/manifests/latest: 503 Service Unavailable",
            "failed to copy: httpReadSeeker: failed open: failed to do request: Get \"https://r/v2/\": EOF",
            "dial tcp: lookup r on 10.0.0.1:53: no such host",
        ] {
            assert_eq!(reason(push, text), Some((Reason::RegistryUnavailable, true)), "{text}");
        }
        assert_eq!(reason(push, "something else"), None);
    }
}
