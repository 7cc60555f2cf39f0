//! How a client proves itself to a registry: basic authentication, and tokens of a token service.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use moka::{Expiry, future::Cache};
use reqwest::{RequestBuilder, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    credentials::Credential, endpoint::Endpoint, error::RegistryError, host::Host, manner::Manner, transport::Transport,
};

/// What a token service's answer may have, in bytes; tokens with many claims take tens of KiB.
const TOKEN_ANSWER: usize = 1024 * 1024;

/// How long a token lasts where the service doesn't say (distribution's token specification).
const TOKEN_LIFE: u64 = 60;

/// The longest that an authorization is kept: rights that were withdrawn end after this.
const LONGEST_KEPT: Duration = Duration::from_secs(300);

/// How long it is remembered how a host wants to be asked.
const CHALLENGE_KEPT: Duration = Duration::from_secs(60);

/// Entries of each cache.
const ENTRIES: u64 = 4096;

/// What a registry asks of who isn't known to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// A registry's token service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bearer {
    pub(super) realm: Url,
    service: Option<String>,
}

/// A token and how many seconds it lasts.
pub(super) struct Token {
    pub(super) secret: SecretString,
    pub(super) expires_in: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

/// What is to be done with which repository.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) repository: &'a str,
    pub(super) right: Right<'a>,
}

/// What a token is asked for.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Pull,
    Push,
    Delete,
    /// To push, and to take blobs over from another repository.
    Mount(&'a str),
    /// To list the registry's repositories; of no repository.
    List,
}

/// Sends requests with the authorization that the registry wants to see.
pub(super) struct Authorizer {
    authorizations: Cache<Key, Authorization>,
    /// By host and manner: what one says that isn't verified counts for no other.
    challenges: Cache<(Host, Manner), Option<Challenge>>,
    fingerprints: hmac::Key,
}

/// Whose authorization, where and for what.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    host: Host,
    manner: Manner,
    scope: String,
    credential: Option<[u8; 32]>,
}

#[derive(Clone)]
struct Authorization {
    header: HeaderValue,
    keep: Duration,
}

/// Keeps each authorization for as long as it lasts.
struct AsLongAsItLasts;

impl Expiry<Key, Authorization> for AsLongAsItLasts {
    fn expire_after_create(&self, _: &Key, authorization: &Authorization, _: Instant) -> Option<Duration> {
        Some(authorization.keep)
    }
}

// === impl Challenge ===

impl Challenge {
    /// Reads `WWW-Authenticate`; tokens are preferred to passwords.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = values.filter_map(|value| http_auth::parse_challenges(value).ok()).flatten().collect();
        let bearer = challenges.iter().filter(|c| c.scheme.eq_ignore_ascii_case("bearer")).find_map(|challenge| {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let realm = Url::parse(&parameter("realm")?).ok()?;
            Some(Self::Bearer(Bearer { realm, service: parameter("service") }))
        });
        let basic = || challenges.iter().any(|c| c.scheme.eq_ignore_ascii_case("basic")).then_some(Self::Basic);
        bearer.or_else(basic)
    }
}

impl Bearer {
    /// The name of the service; empty where the registry has none.
    pub(super) fn service(&self) -> &str {
        self.service.as_deref().unwrap_or_default()
    }
}

impl Access<'_> {
    /// The scopes to ask a token service for.
    fn scopes(&self) -> Vec<String> {
        let repository = self.repository;
        let of = |actions: &str| format!("repository:{repository}:{actions}");
        match self.right {
            Right::Pull => vec![of("pull")],
            Right::Push => vec![of("pull,push")],
            Right::Delete => vec![of("pull,delete")],
            Right::Mount(from) => vec![of("pull,push"), format!("repository:{from}:pull")],
            Right::List => vec!["registry:catalog:*".to_owned()],
        }
    }
}

// === impl Authorizer ===

impl Authorizer {
    pub(super) fn new(fingerprints: hmac::Key) -> Self {
        Self {
            authorizations: Cache::builder().max_capacity(ENTRIES).expire_after(AsLongAsItLasts).build(),
            challenges: Cache::builder().max_capacity(ENTRIES).time_to_live(CHALLENGE_KEPT).build(),
            fingerprints,
        }
    }

    /// Sends a request; if the registry asks who it is, once more with proof.
    pub(super) async fn send(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        access: Option<Access<'_>>,
        credential: Option<&Credential>,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let failed = |error| endpoint.failed(error);
        let scopes = access.map_or_else(Vec::new, |access| access.scopes());
        let key = Key {
            host: endpoint.host.clone(),
            manner: endpoint.manner,
            scope: scopes.join(" "),
            credential: credential.map(|credential| credential.fingerprint(&self.fingerprints)),
        };
        let known = self.authorizations.get(&key).await;
        let first = match &known {
            Some(known) => request().header(header::AUTHORIZATION, known.header.clone()).send().await,
            None => request().send().await,
        };
        let first = first.map_err(failed)?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        self.authorizations.invalidate(&key).await;
        let authorization = match (Challenge::of(first.headers()), credential) {
            // A password that was just refused is refused again.
            (Some(Challenge::Basic), Some(Credential::Password { username, password })) if known.is_none() => {
                let pair = SecretString::from(format!("{username}:{}", password.expose_secret()));
                let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pair.expose_secret());
                Authorization::new(endpoint, "Basic", &encoded, LONGEST_KEPT)?
            }
            (Some(Challenge::Bearer(bearer)), _) => {
                let token = fetch(transport, endpoint, &bearer, &scopes, credential).await?;
                // Dropped somewhat before its end, so that it isn't refused on its way.
                let keep = Duration::from_secs(token.expires_in.saturating_mul(4) / 5).min(LONGEST_KEPT);
                Authorization::new(endpoint, "Bearer", token.secret.expose_secret(), keep)?
            }
            _ => return Ok(first),
        };
        let second =
            request().header(header::AUTHORIZATION, authorization.header.clone()).send().await.map_err(failed)?;
        if second.status() != StatusCode::UNAUTHORIZED {
            self.authorizations.insert(key, authorization).await;
        }
        Ok(second)
    }

    /// How a registry wants to be asked; `None` lets anybody in.
    pub(super) async fn challenge(&self, endpoint: &Endpoint) -> Result<Option<Challenge>, RegistryError> {
        let ask = async {
            let response =
                endpoint.client.get(endpoint.url("")).send().await.map_err(|error| endpoint.failed(error))?;
            match response.status() {
                StatusCode::UNAUTHORIZED => match Challenge::of(response.headers()) {
                    Some(challenge) => Ok(Some(challenge)),
                    None => Err(endpoint.invalid("/v2/", "it answers 401 without saying how to authenticate")),
                },
                status if status.is_success() => Ok(None),
                _ => Err(endpoint.refusal("/v2/", response).await),
            }
        };
        let key = (endpoint.host.clone(), endpoint.manner);
        self.challenges.try_get_with(key, ask).await.map_err(|error: std::sync::Arc<RegistryError>| (*error).clone())
    }
}

impl Authorization {
    fn new(endpoint: &Endpoint, scheme: &str, proof: &str, keep: Duration) -> Result<Self, RegistryError> {
        let header = HeaderValue::try_from(format!("{scheme} {proof}"));
        let mut header = header.map_err(|_| endpoint.invalid("the token", "it isn't printable"))?;
        header.set_sensitive(true);
        Ok(Self { header, keep })
    }
}

/// Gets a token: with the password or anonymously by GET, with an identity token by POST, as
/// distribution's specifications of its token services have it.
pub(super) async fn fetch(
    transport: &Transport,
    endpoint: &Endpoint,
    bearer: &Bearer,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<Token, RegistryError> {
    let client = transport.token_client(endpoint, &bearer.realm)?;
    let service = bearer.service.as_deref().map(|service| ("service", service));
    let request = match credential {
        Some(Credential::IdentityToken(token)) => {
            let scope = scopes.join(" ");
            let mut form = vec![
                ("grant_type", "refresh_token"),
                ("client_id", "kiln"),
                ("refresh_token", token.expose_secret()),
                ("scope", &scope),
            ];
            form.extend(service);
            client.post(bearer.realm.clone()).form(&form)
        }
        other => {
            let query: Vec<_> =
                service.into_iter().chain(scopes.iter().map(|scope| ("scope", scope.as_str()))).collect();
            let request = client.get(bearer.realm.clone()).query(&query);
            match other {
                Some(Credential::Password { username, password }) => {
                    request.basic_auth(username, Some(password.expose_secret()))
                }
                _ => request,
            }
        }
    };
    let what = if scopes.is_empty() { "the token".to_owned() } else { format!("a token for {}", scopes.join(" ")) };
    let response = request.send().await.map_err(|error| endpoint.failed(error))?;
    if !response.status().is_success() {
        return Err(match endpoint.refusal(&what, response).await {
            // A token service says 400 or 404 to what it doesn't grant; there is nothing of ours to be found there.
            RegistryError::NotFound { host, what } => RegistryError::Forbidden { host, what, why: None },
            RegistryError::Invalid { host, what, cause } => RegistryError::Forbidden { host, what, why: Some(cause) },
            other => other,
        });
    }
    let body = endpoint.read(response, &what, TOKEN_ANSWER).await?;
    let unreadable = || endpoint.invalid(&what, "the token service's answer has none");
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| unreadable())?;
    let given = |token: &SecretString| !token.expose_secret().is_empty();
    let secret = answer.token.filter(given).or(answer.access_token.filter(given)).ok_or_else(unreadable)?;
    Ok(Token { secret, expires_in: answer.expires_in.unwrap_or(TOKEN_LIFE) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(values: &[&'static str]) -> Option<Challenge> {
        let headers = values.iter().map(|&value| (header::WWW_AUTHENTICATE, HeaderValue::from_static(value)));
        Challenge::of(&headers.collect())
    }

    #[test]
    fn challenges_are_read_and_tokens_preferred() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer(Bearer { realm: Url::parse(realm).unwrap(), service: service.map(str::to_owned) }))
        };
        assert_eq!(
            challenge(&[r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:c,d""#]),
            bearer("https://auth.docker.io/token", Some("registry.docker.io"))
        );
        assert_eq!(challenge(&[r#"Basic realm="x""#, r#"bearer Realm="https://a/t""#]), bearer("https://a/t", None));
        assert_eq!(challenge(&[r#"Basic realm="x", Bearer realm="https://a/t""#]), bearer("https://a/t", None));
        assert_eq!(challenge(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(challenge(&[r#"Bearer realm="/relative""#]), None);
        assert_eq!(challenge(&["Negotiate"]), None);
        assert_eq!(challenge(&[]), None);
    }
}
