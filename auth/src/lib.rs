//! Who calls Kiln, and what they may name.
//!
//! [`scope`] is the smallest part and has no dependencies on transports: a target that a caller
//! names becomes a [`ScopedTarget`] here or nowhere. The feature `providers` adds identities,
//! the providers that prove them, and the tower layer that asks those providers:
//!
//! ```text
//! Authorization ─► Credential ─► Providers ─► Identity ─► Scope ─► ScopedTarget
//!                  credential    users_file   identity
//!                                couchdb, cache
//! ```

pub mod grammar;
pub mod scope;
pub mod scope_check;

#[cfg(feature = "providers")]
pub mod cache;
#[cfg(feature = "providers")]
pub mod couchdb;
#[cfg(feature = "providers")]
pub mod credential;
#[cfg(feature = "providers")]
pub mod identity;
#[cfg(feature = "providers")]
pub mod layer;
#[cfg(feature = "providers")]
pub mod provider;
#[cfg(feature = "providers")]
pub mod users_file;

pub use scope::{InvalidTarget, InvalidUserName, OutOfScope, Scope, ScopedTarget, Target, UserName};
pub use scope_check::{InvalidScopeCheck, ScopeCheck};

#[cfg(feature = "providers")]
pub use {
    cache::{Cached, Lifetimes},
    couchdb::{CouchDb, CouchDbConfig, CouchDbError, InvalidCouchDbConfig},
    credential::{Credential, JwtToken, Unusable, WskToken},
    identity::{Environment, Identity},
    layer::{AuthError, Authenticate, RemoteAddress},
    provider::{IdentityProvider, Providers, Refusal},
    users_file::{NewUser, UsersFile, UsersFileError, add_user},
};
