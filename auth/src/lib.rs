//! Who calls Kiln, and what they may name.
//!
//! [`scope`] is the smallest part and has no dependencies on transports: a target that a caller
//! names becomes a [`ScopedTarget`] here or nowhere. The feature `providers` adds identities,
//! the providers that prove them, and the tower layer that asks those providers:
//!
//! ```text
//! Authorization ─► Credential ─► Providers ─► Identity ─► Scope ─► ScopedTarget
//!                  credential    users_file   identity
//!                                couchdb      names, operators
//!                                openwhisk
//!                                jwt, cache
//! ```

pub mod grammar;
pub mod scope;
pub mod scope_check;

#[cfg(feature = "providers")]
pub mod address;
#[cfg(feature = "providers")]
pub mod attempts;
#[cfg(feature = "providers")]
pub mod audit;
#[cfg(feature = "providers")]
pub mod cache;
#[cfg(feature = "providers")]
pub mod couchdb;
#[cfg(feature = "providers")]
pub mod credential;
#[cfg(feature = "providers")]
mod http_client;
#[cfg(feature = "providers")]
pub mod identity;
#[cfg(feature = "providers")]
pub mod in_flight;
#[cfg(feature = "providers")]
pub mod jwt;
#[cfg(feature = "providers")]
pub mod layer;
#[cfg(feature = "providers")]
pub mod lookups;
#[cfg(feature = "providers")]
pub mod names;
#[cfg(feature = "providers")]
pub mod openwhisk;
#[cfg(feature = "providers")]
pub mod operators;
#[cfg(feature = "providers")]
mod plain_http;
#[cfg(feature = "providers")]
pub mod provider;
#[cfg(feature = "providers")]
pub mod questions;
#[cfg(feature = "providers")]
pub mod rate;
#[cfg(feature = "providers")]
pub mod signature;
#[cfg(feature = "providers")]
pub mod users_file;

pub use scope::{InvalidTarget, InvalidUserName, OutOfScope, Scope, ScopedTarget, Target, UserName};
pub use scope_check::{InvalidScopeCheck, ScopeCheck};

#[cfg(feature = "providers")]
pub use {
    address::{Origin, Peer, TrustedProxies},
    attempts::Attempts,
    cache::{Cached, Lifetimes},
    couchdb::{CouchDb, CouchDbConfig, CouchDbError, InvalidCouchDbConfig},
    credential::{Credential, JwtToken, Unusable, WskToken},
    http_client::TlsError,
    identity::{Environment, Identity},
    in_flight::{Full, Held, InFlight, Place, Places},
    jwt::{ClaimPath, InvalidJwtConfig, InvalidKeys, JwksError, Jwt, JwtConfig, KeySource, KeyTimes},
    layer::{AuthError, Authenticate},
    lookups::{LookupError, LookupLimits},
    names::{InvalidNaming, Misnamed, Named, Naming},
    openwhisk::{InvalidOpenWhiskConfig, OpenWhisk, OpenWhiskConfig, OpenWhiskError},
    operators::{InvalidOperator, Operators},
    provider::{IdentityProvider, Providers, Refusal},
    questions::{Asker, Questions},
    rate::{Exceeded, PerKey, Rate, RateLimit, Standing},
    users_file::{NewUser, UsersFile, UsersFileError, add_user},
};
