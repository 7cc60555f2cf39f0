//! What can go wrong with a registry: one variant per cause that a caller can do something about.

use super::{host::Host, platform::Platform};

/// A registry didn't do what was asked. `Clone`, because one fetch may serve many callers.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such repository, tag or digest.
    #[error("{what} doesn't exist in the registry {host}")]
    NotFound {
        /// The registry.
        host: Host,
        /// The reference.
        what: String,
    },
    /// 401 or 403: no such rights, or, as some registries answer, no such repository.
    #[error("the registry {host} refuses {what}{}: it doesn't exist, or the credentials don't cover it", reason(.why))]
    Forbidden {
        /// The registry.
        host: Host,
        /// What was refused.
        what: String,
        /// What the registry says about it, if it does.
        why: Option<String>,
    },
    /// 5xx, 429, no connection, no answer in time.
    #[error("the registry {host} is unavailable: {cause}")]
    Unavailable {
        /// The registry.
        host: Host,
        /// What happened.
        cause: String,
    },
    /// It answers, but not with what the distribution specification says.
    #[error("{what} from the registry {host} is invalid: {cause}")]
    Invalid {
        /// The registry.
        host: Host,
        /// What was read.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Its address isn't public and it isn't configured.
    #[error(
        "the registry {host} has an address that isn't public; name it under [registries] \
         or in registry.allowed_user_registries to permit it"
    )]
    Refused {
        /// The registry.
        host: Host,
    },
}

/// No base to build on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The registry didn't give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image isn't made for a platform that was asked for.
    #[error("{image} isn't made for {wanted}; it has {}", list(.available))]
    UnsupportedPlatform {
        /// The reference.
        image: String,
        /// The platform that was asked for.
        wanted: Platform,
        /// Those it has.
        available: Vec<Platform>,
    },
}

fn reason(why: &Option<String>) -> String {
    why.as_ref().map_or_else(String::new, |why| format!(" ({why})"))
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "none at all".to_owned(),
        some => some.iter().map(Platform::to_string).collect::<Vec<_>>().join(", "),
    }
}
