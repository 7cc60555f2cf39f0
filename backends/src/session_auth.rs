//! How a build's session gets at registry credentials: through a trait, so that backends never
//! hold a password longer than one answer.

use async_trait::async_trait;
use secrecy::SecretString;

/// Credentials for one build: answers for exactly the registries and repositories it may use.
#[async_trait]
pub trait RegistryAuth: Send + Sync {
    /// User name and password for a registry that speaks Basic alone; `None` is anonymous.
    ///
    /// `host` is the registry's `host[:port]` as the engine names it (Docker Hub is
    /// `registry-1.docker.io`).
    async fn basic(&self, host: &str) -> Option<BasicCredential>;

    /// A bearer token from the registry's token service, for no more than this build needs.
    ///
    /// # Errors
    /// When the token service refuses or doesn't answer.
    async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused>;
}

/// A user name with its password.
#[derive(Clone, Debug)]
pub struct BasicCredential {
    /// The user name.
    pub username: String,
    /// The password, or an identity token.
    pub password: SecretString,
}

/// A registry's challenge, as the engine met it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRequest {
    /// The registry, `host[:port]`.
    pub host: String,
    /// The token service's URL.
    pub realm: String,
    /// The service that the registry named.
    pub service: String,
    /// The scopes asked for, such as `repository:devel:pull,push`.
    pub scopes: Vec<String>,
}

/// A token and how long it lasts.
#[derive(Clone, Debug)]
pub struct RegistryToken {
    /// The token.
    pub token: SecretString,
    /// Seconds from the moment of issue; 60 where the service doesn't say.
    pub expires_in: i64,
}

/// No token was given.
#[derive(Debug, thiserror::Error)]
#[error("no token for {host}: {cause}")]
pub struct TokenRefused {
    /// The registry.
    pub host: String,
    /// Why, fit for the build's log.
    pub cause: String,
}
