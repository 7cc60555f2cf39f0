//! Kiln as the client of registries: which base an image stands on, under which tag it ends, and
//! whose credentials go where.
//!
//! The way of a credential: [`destination()`] decides where a caller's image goes and with what;
//! [`RegistryClient`] resolves bases and puts tags; [`SessionAuth`] answers the engine for exactly
//! the repositories of one build.

mod address;
mod auth;
mod base;
mod client;
mod cluster;
mod credentials;
mod destination;
mod docker_config;
mod endpoint;
mod error;
mod host;
mod manifest;
mod manner;
mod platform;
mod reference;
mod repository;
mod resolve;
mod session;
mod table;
mod transport;
mod truststore;

pub(crate) use self::{
    address::{AddressRefused, Guarded, Reach, SystemNames},
    manifest::Raw,
    reference::is_sha256,
    repository::{Names, Removal},
    session::matches,
};
pub use self::{
    base::{Base, BaseConfig},
    client::{Authentication, RegistryClient},
    cluster::{Cluster, ClusterObjects, Unasked},
    credentials::{Credential, Credentials},
    destination::{ClusterRegistry, ClusterSecret, DestinationError, ProcessRegistry, Push, destination},
    docker_config::CredentialError,
    error::{RegistryError, ResolveError},
    host::{Host, InvalidHost},
    manner::Manner,
    platform::{InvalidPlatform, Platform},
    reference::{BaseRef, InvalidReference},
    session::{BuildCredentials, PullGrant, PushGrant, SessionAuth},
    table::{Registries, RegistrySettings, Unreadable},
    transport::{Deadlines, Network, SetupError},
    truststore::{TRUST_STORE_PASSWORD, TrustStore, TrustStoreError},
};
