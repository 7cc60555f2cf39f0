//! Whose tokens are believed, for whom, and by which keys.

use std::{io, path::PathBuf, time::Duration};

use http::Uri;
use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::{ClaimPath, InvalidKeys};
use crate::{http_client::TlsError, plain_http::leaves_the_machine};

/// One issuer.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// The provider's name, in logs and in front of operators' names.
    pub name: String,
    /// The token's `iss`, exactly.
    pub issuer: String,
    /// The token's `aud` is, or contains, one of these.
    pub audience: Vec<String>,
    /// What a token may be signed with. What its header says only chooses among these.
    pub algorithms: Vec<String>,
    /// Where the keys are.
    pub keys: KeySource,
    /// By how much clocks may differ; at most five minutes.
    pub leeway: Duration,
    /// The claim that is the user's name.
    pub user_claim: ClaimPath,
    /// The claim that lists the user's roles.
    pub roles_claim: Option<ClaimPath>,
    /// How long keys are kept.
    pub times: KeyTimes,
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A JWKS at an `http` or `https` URL.
    Url {
        /// Where.
        url: Uri,
        /// Authorities to trust instead of the system's, PEM.
        ca: Option<Vec<u8>>,
        /// A bearer token that the server wants; the file is read for every question, since it is renewed.
        bearer_token_file: Option<PathBuf>,
        /// Takes a URL that is plain HTTP to another machine: whoever is on the way can hand out keys.
        allow_plain_http: bool,
    },
    /// A JWKS in a file, which is read again as a URL is asked again.
    SetFile(PathBuf),
    /// One public key in PEM form, or a secret, read at start.
    KeyFile(PathBuf),
}

/// How long the keys of a set are kept.
#[derive(Clone, Copy, Debug)]
pub struct KeyTimes {
    /// Between two questions at least, however many unknown keys tokens name.
    pub pause: Duration,
    /// After so long the set is asked for again: a key that has vanished from it stops working.
    pub fresh: Duration,
    /// After so long without an answer the old set isn't believed any more.
    pub keep: Duration,
    /// How long an answer may take.
    pub answer: Duration,
}

/// The longest leeway: more makes `exp` a suggestion.
const LEEWAY_AT_MOST: Duration = Duration::from_secs(5 * 60);

/// The configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidJwtConfig {
    /// A setting that must say something says nothing.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// There is no such algorithm.
    #[error("algorithms: {0:?} is none of HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA")]
    Algorithm(String),
    /// Secrets and public keys are mixed.
    #[error("algorithms: HS… can't stand beside others; a public key would be taken for the secret")]
    Mixed,
    /// A secret can't come from a set.
    #[error("algorithms: HS… needs key_file; a secret that is published in a JWKS is none")]
    SecretSet,
    /// One key file can't serve several kinds of keys.
    #[error("algorithms: one key_file is a key of one kind; use a JWKS for several")]
    Kinds,
    /// The leeway is too long.
    #[error("leeway: at most {LEEWAY_AT_MOST:?}")]
    Leeway,
    /// Times contradict each other.
    #[error("max_age is shorter than refresh_pause, or keep is shorter than max_age")]
    Times,
    /// The URL isn't one of a web server.
    #[error("jwks_url: {0} is no http or https URL")]
    Url(Uri),
    /// Keys would come over a network unprotected.
    #[error(
        "jwks_url: {0} is plain http, by which whoever is on the way can hand out keys of their own; use https, or \
         set allow_plain_http = true"
    )]
    PlainHttp(Uri),
    /// A file can't be read.
    #[error("{}: can't be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no keys.
    #[error("{}", path.display())]
    Keys {
        /// Which.
        path: PathBuf,
        /// Why.
        source: InvalidKeys,
    },
    /// No client for the URL can be made.
    #[error("jwks_url can't be asked by https")]
    Tls(#[from] TlsError),
}

impl Default for KeyTimes {
    /// 10 s between questions; asked again after 10 minutes; not believed after an hour without an
    /// answer; 5 s for an answer.
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(10),
            fresh: Duration::from_secs(10 * 60),
            keep: Duration::from_secs(60 * 60),
            answer: Duration::from_secs(5),
        }
    }
}

impl JwtConfig {
    /// Checks what can be checked without a key, and reads the algorithms.
    pub(super) fn check(&self) -> Result<Vec<Algorithm>, InvalidJwtConfig> {
        let empty = [
            ("issuer", self.issuer.is_empty()),
            ("audience", self.audience.is_empty() || self.audience.iter().any(String::is_empty)),
            ("algorithms", self.algorithms.is_empty()),
            ("user_claim", self.user_claim == ClaimPath::new("")),
        ];
        if let Some((setting, _)) = empty.into_iter().find(|(_, empty)| *empty) {
            return Err(InvalidJwtConfig::Empty(setting));
        }
        if self.leeway > LEEWAY_AT_MOST {
            return Err(InvalidJwtConfig::Leeway);
        }
        if self.times.fresh < self.times.pause || self.times.keep < self.times.fresh {
            return Err(InvalidJwtConfig::Times);
        }
        let algorithm = |name: &String| name.parse().map_err(|_| InvalidJwtConfig::Algorithm(name.clone()));
        let algorithms: Vec<Algorithm> = self.algorithms.iter().map(algorithm).collect::<Result<_, _>>()?;
        let secret = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        let secrets = algorithms.iter().filter(|algorithm| secret(algorithm)).count();
        let one_kind = algorithms.windows(2).all(|pair| pair[0].family() == pair[1].family());
        match &self.keys {
            _ if secrets != 0 && secrets != algorithms.len() => Err(InvalidJwtConfig::Mixed),
            KeySource::KeyFile(_) if one_kind => Ok(algorithms),
            KeySource::KeyFile(_) => Err(InvalidJwtConfig::Kinds),
            _ if secrets != 0 => Err(InvalidJwtConfig::SecretSet),
            KeySource::Url { url, .. } if !matches!(url.scheme_str(), Some("http" | "https")) => {
                Err(InvalidJwtConfig::Url(url.clone()))
            }
            KeySource::Url { url, allow_plain_http: false, .. } if leaves_the_machine(url) => {
                Err(InvalidJwtConfig::PlainHttp(url.clone()))
            }
            _ => Ok(algorithms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(algorithms: &[&str], keys: KeySource) -> JwtConfig {
        JwtConfig {
            name: "test".into(),
            issuer: "i".into(),
            audience: vec!["a".into()],
            algorithms: algorithms.iter().map(|name| (*name).to_owned()).collect(),
            keys,
            leeway: Duration::from_secs(60),
            user_claim: ClaimPath::new("sub"),
            roles_claim: None,
            times: KeyTimes::default(),
        }
    }

    #[test]
    fn algorithms_that_would_let_one_key_pass_for_another_are_refused() {
        let file = || KeySource::KeyFile("k".into());
        let set = || KeySource::SetFile("s".into());
        for (algorithms, keys, fault) in [
            (&["RS256"][..], set(), None),
            (&["RS256", "ES256", "EdDSA"], set(), None),
            (&["RS256", "PS512"], file(), None),
            (&["HS256", "HS512"], file(), None),
            (&["RS256", "HS256"], file(), Some("can't stand beside")),
            (&["RS256", "HS256"], set(), Some("can't stand beside")),
            (&["HS256"], set(), Some("needs key_file")),
            (&["RS256", "ES256"], file(), Some("of one kind")),
            (&["none"], set(), Some("\"none\" is none of")),
            (&["rs256"], set(), Some("is none of")),
            (&["ES512"], set(), Some("is none of")),
            (&[], set(), Some("algorithms is empty")),
        ] {
            let checked = config(algorithms, keys).check().map_err(|e| e.to_string());
            let right = match (&checked, fault) {
                (Err(error), Some(fault)) => error.contains(fault),
                (checked, fault) => checked.is_ok() && fault.is_none(),
            };
            assert!(right, "{algorithms:?}: {checked:?}");
        }
    }

    #[test]
    fn settings_that_would_believe_too_much_are_refused() {
        let good = || config(&["RS256"], KeySource::SetFile("s".into()));
        let no_audience = JwtConfig { audience: vec![], ..good() };
        let any_audience = JwtConfig { audience: vec![String::new()], ..good() };
        let no_issuer = JwtConfig { issuer: String::new(), ..good() };
        let no_user = JwtConfig { user_claim: ClaimPath::new(""), ..good() };
        let long = JwtConfig { leeway: Duration::from_secs(301), ..good() };
        let times = KeyTimes { keep: Duration::from_secs(1), ..KeyTimes::default() };
        let url = |url: &str, allow_plain_http| {
            let url = url.parse().unwrap();
            JwtConfig { keys: KeySource::Url { url, ca: None, bearer_token_file: None, allow_plain_http }, ..good() }
        };
        for (config, fault) in [
            (no_audience, "audience is empty"),
            (any_audience, "audience is empty"),
            (no_issuer, "issuer is empty"),
            (no_user, "user_claim is empty"),
            (long, "leeway"),
            (JwtConfig { times, ..good() }, "keep is shorter"),
            (url("/jwks", true), "no http or https URL"),
            (url("http://issuer.example/jwks", false), "allow_plain_http"),
            (url("http://issuer/jwks", false), "allow_plain_http"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        for (text, allow_plain_http) in
            [("http://issuer.example/jwks", true), ("https://issuer.example/jwks", false), ("http://[::1]/jwks", false)]
        {
            assert!(url(text, allow_plain_http).check().is_ok(), "{text}");
        }
    }
}
