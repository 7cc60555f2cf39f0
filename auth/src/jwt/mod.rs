//! Signed tokens (RFC 7519) of configured issuers, OpenID Connect providers and Kubernetes among them.
//!
//! Configuration says which algorithms count, whose tokens and for whom; a token's header only chooses
//! among them (RFC 8725). Its `kid` is compared with the ids of the issuer's set, and `jku`, `x5u`, `jwk`
//! and `x5c`, by which a token would bring its own key, are never looked at.

mod claims;
mod config;
mod jwks;
mod keys;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde::de::IgnoredAny;

pub use self::{
    claims::ClaimPath,
    config::{InvalidJwtConfig, JwtConfig, KeySource, KeyTimes},
    jwks::JwksError,
    keys::InvalidKeys,
};
use self::{
    claims::Claims,
    jwks::{Jwks, LONGEST, Source},
    keys::KeySet,
};
use crate::{
    Asker, Credential, Identity, IdentityProvider, Refusal, UserName,
    http_client::{Bounds, Http},
};

/// How long to wait for a connection to an issuer.
const CONNECT: Duration = Duration::from_secs(2);

/// Identities out of one issuer's tokens.
pub struct Jwt {
    name: Arc<str>,
    issuer: String,
    /// What is checked beside the signature, for each algorithm that counts.
    validations: Vec<Validation>,
    keys: Keys,
    user_claim: ClaimPath,
    roles_claim: Option<ClaimPath>,
}

enum Keys {
    /// The key of a file.
    One(KeySet),
    /// An issuer's set.
    Set(Arc<Jwks>),
}

// === impl Jwt ===

impl Jwt {
    /// Prepares to check an issuer's tokens. Files are read now; a URL is asked when a token comes, so
    /// that an issuer who is down keeps nobody else out.
    ///
    /// # Errors
    /// When settings contradict each other, or a file can't be used.
    pub fn new(config: &JwtConfig) -> Result<Self, InvalidJwtConfig> {
        let algorithms = config.check()?;
        Ok(Self {
            name: config.name.as_str().into(),
            issuer: config.issuer.clone(),
            validations: algorithms.iter().map(|algorithm| validation(config, *algorithm)).collect(),
            keys: Keys::new(config, algorithms)?,
            user_claim: config.user_claim.clone(),
            roles_claim: config.roles_claim.clone(),
        })
    }

    /// Asks for the issuer's keys; counts those that can be used.
    ///
    /// # Errors
    /// When they can't be had.
    pub async fn keys(&self) -> Result<usize, JwksError> {
        match &self.keys {
            Keys::One(keys) => Ok(keys.len()),
            Keys::Set(jwks) => jwks.count().await,
        }
    }

    /// The claims of a token that says to be this issuer's; so far it only says so.
    fn claims(&self, credential: &Credential) -> Option<Claims> {
        let Credential::Jwt(token) = credential else { return None };
        Claims::unverified(token.reveal()).filter(|claims| claims.issuer() == Some(&self.issuer))
    }

    async fn verify(&self, token: &str) -> Result<(), Refusal> {
        let header = decode_header(token);
        let header = header.map_err(|_| Refusal::Rejected("the token's header can't be read"))?;
        if header.crit.is_some() {
            return Err(Refusal::Rejected("the token demands an extension (crit)"));
        }
        let validation = self.validations.iter().find(|validation| validation.algorithms == [header.alg]);
        let validation = validation.ok_or(Refusal::Rejected("the token's algorithm isn't one of those configured"))?;
        let key = self.keys.find(header.kid.as_deref(), header.alg).await?;
        decode::<IgnoredAny>(token, &key, validation).map_err(|error| Refusal::Rejected(reason(&error)))?;
        Ok(())
    }

    fn identity(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let user = claims.text(&self.user_claim).ok_or(Refusal::Rejected("the token's user claim is no text"))?;
        let user = UserName::parse(user)
            .map_err(|_| Refusal::Rejected("the token's user claim can't be the name of a repository"))?;
        let roles = self.roles_claim.as_ref().map(|path| claims.words(path)).unwrap_or_default();
        let identity = Identity::new(user, Arc::clone(&self.name)).with_roles(roles);
        Ok(match claims.expires() {
            Some(at) => identity.expiring(at),
            None => identity,
        })
    }
}

#[async_trait]
impl IdentityProvider for Jwt {
    fn name(&self) -> &str {
        &self.name
    }

    async fn identify(&self, credential: &Credential, _: &Asker) -> Result<Identity, Refusal> {
        let (Credential::Jwt(token), Some(claims)) = (credential, self.claims(credential)) else {
            return Err(Refusal::NotMine);
        };
        self.verify(token.reveal()).await?;
        // The same bytes that the signature covers.
        self.identity(&claims)
    }

    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        if self.claims(credential).is_some() { None } else { Some(Err(Refusal::NotMine)) }
    }
}

// === impl Keys ===

impl Keys {
    fn new(config: &JwtConfig, allowed: Vec<Algorithm>) -> Result<Self, InvalidJwtConfig> {
        let read = |path: &std::path::PathBuf| {
            std::fs::read(path).map_err(|source| InvalidJwtConfig::Unreadable { path: path.clone(), source })
        };
        let invalid = |path: &std::path::PathBuf| {
            let path = path.clone();
            |source| InvalidJwtConfig::Keys { path, source }
        };
        match &config.keys {
            KeySource::KeyFile(path) => {
                Ok(Self::One(KeySet::from_file(&read(path)?, &allowed).map_err(invalid(path))?))
            }
            KeySource::SetFile(path) => {
                let keys = KeySet::from_jwks(&read(path)?, &allowed).map_err(invalid(path))?;
                let jwks = Jwks::new(Source::File(path.clone()), allowed, config.times);
                jwks.hold(keys);
                Ok(Self::Set(jwks))
            }
            KeySource::Url { url, ca, bearer_token_file, .. } => {
                let bounds = Bounds { connect: CONNECT, idle: 1, answer: LONGEST };
                let http = Box::new(Http::new(url, ca.as_deref(), bounds)?);
                let (url, bearer_token_file) = (url.clone(), bearer_token_file.clone());
                Ok(Self::Set(Jwks::new(Source::Url { http, url, bearer_token_file }, allowed, config.times)))
            }
        }
    }

    async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refusal> {
        match self {
            Self::One(keys) => keys.only().cloned().ok_or(Refusal::Rejected("there is no key")),
            Self::Set(jwks) => jwks.find(id, algorithm).await,
        }
    }
}

/// What a token signed with `algorithm` must say. One algorithm each: the library wants all of them to
/// be of the key's own family.
fn validation(config: &JwtConfig, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&config.audience);
    validation.leeway = config.leeway.as_secs();
    validation.validate_nbf = true;
    validation
}

/// What the log says. The library's own texts may quote a token.
fn reason(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidSignature => "the token's signature doesn't match",
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token isn't valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is another issuer's",
        ErrorKind::MissingRequiredClaim(_) => "the token has no usable exp, iss or aud",
        ErrorKind::InvalidClaimFormat(_) => "the token's exp or nbf is no time",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => "the token's algorithm isn't its key's",
        _ => "the token can't be read",
    }
}

#[cfg(test)]
mod tests;
