//! A question about one build: who asks, and about which.

use axum::{
    Extension,
    extract::{FromRequestParts, Path},
};
use http::request::Parts;
use kiln_auth::{Identity, Origin, UserName};
use kiln_backends::BuildId;

use super::fault::Fault;
use crate::{builds::Builds, doors::oversight};

/// What every such question has. What isn't a build's id, UTF-8 or not, is no build's.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) identity: Identity,
    pub(super) origin: Origin,
    pub(super) id: BuildId,
}

impl Asked {
    /// Whose build it is, as far as the caller may know.
    pub(super) async fn owner(&self, builds: &Builds) -> Result<UserName, Fault> {
        oversight::owner_of(builds, &self.identity, self.id).await?.ok_or_else(Fault::missing)
    }

    /// Notes what was looked at, where it is another's.
    pub(super) fn note(&self, what: &'static str, owner: &UserName) {
        oversight::note(what, &self.identity, self.origin, owner, Some(self.id));
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        // The guard has noted both.
        let identity = Extension::<Identity>::from_request_parts(parts, state).await;
        let origin = Extension::<Origin>::from_request_parts(parts, state).await;
        let id = Path::<String>::from_request_parts(parts, state).await.ok().and_then(|Path(id)| id.parse().ok());
        match (identity, origin, id) {
            (Ok(Extension(identity)), Ok(Extension(origin)), Some(id)) => Ok(Self { identity, origin, id }),
            _ => Err(Fault::missing()),
        }
    }
}
