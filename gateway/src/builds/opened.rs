//! A base that an owner may build on, and what its registry is shown for it.

use std::{collections::BTreeMap, sync::Arc};

use kiln_auth::UserName;
use kiln_backends::{Capabilities, Failure, Reason};

use super::{attempt::Materials, bases::Permit};
use crate::registry::{Base, BaseRef, Credentials, Platform, Push, ResolveError, destination};

/// A base that may be asked for.
pub(super) struct Opened {
    pub(super) base: BaseRef,
    pub(super) credentials: Credentials,
}

impl Materials {
    /// Where the images of an owner with these settings go.
    pub(super) async fn destination(&self, settings: &BTreeMap<String, String>) -> Result<Push, Failure> {
        let push = destination(&self.process, self.registry.registries(), settings).await;
        push.map_err(|error| Failure::new(Reason::PushDenied, error.to_string()))
    }

    /// Permits an owner, whose images go to `push`, the base that a request names.
    pub(super) async fn open(&self, owner: &UserName, source: &str, push: &Push) -> Result<Opened, Failure> {
        let base = BaseRef::parse(source).map_err(|e| Failure::new(Reason::RecipeInvalid, e.to_string()))?;
        let permit = self.bases.permit(
            &base,
            owner,
            push.host.as_str(),
            self.installation().as_ref(),
            self.registry.registries().mirrors(base.host()),
        )?;
        let credentials = self.pull_credentials(permit, &base, push).await?;
        Ok(Opened { base, credentials })
    }

    /// Asks what the base is now.
    pub(super) async fn resolve(&self, opened: &Opened, platform: &Platform) -> Result<Arc<Base>, ResolveError> {
        self.registry.resolve(&opened.base, std::slice::from_ref(platform), &opened.credentials).await
    }

    /// What the base's registry is shown.
    async fn pull_credentials(&self, permit: Permit, base: &BaseRef, push: &Push) -> Result<Credentials, Failure> {
        let (host, credential) = match permit {
            Permit::Public => (base.host(), None),
            // Also where the base's host is only a name for it: no other host is shown this one.
            Permit::Own => (&push.host, push.credential.clone()),
            Permit::Shared => {
                let operators = self.process.credential(base.host()).await;
                (base.host(), operators.map_err(|error| Failure::new(Reason::BaseForbidden, error.to_string()))?)
            }
        };
        let mut credentials = Credentials::default();
        if let Some(credential) = credential {
            credentials.insert(host.clone(), credential);
        }
        Ok(credentials)
    }
}

/// What an engine builds for that isn't told.
pub(super) fn platform(engine: Option<&Capabilities>) -> Platform {
    let known = engine.and_then(|engine| engine.platforms.iter().find_map(|platform| platform.parse().ok()));
    known.unwrap_or_else(Platform::native)
}
