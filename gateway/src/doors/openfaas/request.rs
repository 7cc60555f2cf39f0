//! From a proved body to a build: the archive taken apart, its configuration read, its image scoped.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use kiln_auth::{Identity, Origin, Target, UserName};
use kiln_backends::BuildArg;

use super::{OpenFaas, dialect::Fault, secrets};
use crate::{
    archive::{
        Spooled, UnpackError,
        package::{self, InvalidPackage, Package},
    },
    builds::{Request, Submission},
    recipes::Context,
    registry::{BaseRef, Host, matches},
};

/// Contexts up to so many bytes are read once more for a hash, by which the engine knows one that it
/// has: less than sending them takes.
const HASHED: u64 = 16 << 20;

/// A build as an archive asks for it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) submission: Submission,
    pub(super) context: Context,
    /// The image's name as it was written, which answers repeat.
    pub(super) image: String,
}

/// Takes a body of this owner apart.
pub(super) async fn package(spooled: Spooled, owner: &UserName) -> Result<Package, Fault> {
    let tree = spooled.unpack(owner).await.map_err(|error| match error {
        UnpackError::Archive(error) => Fault::bad(error.to_string()),
        UnpackError::Spool(ref cause) => Fault::of_spool(&error, cause),
        UnpackError::Cancelled => Fault::internal(&error),
    })?;
    let opened = tokio::task::spawn_blocking(move || {
        let package = package::open(&tree)?;
        let context = package.context.hashed(HASHED).map_err(InvalidPackage::Spool)?;
        Ok(Package { context, ..package })
    });
    match opened.await.map_err(|error| Fault::internal(&error))? {
        Ok(package) => Ok(package),
        Err(error @ InvalidPackage::Spool(_)) => Err(Fault::internal(&error)),
        Err(error) => Err(Fault::bad(error.to_string())),
    }
}

/// What the archive asks for, as this identity may have it.
pub(super) async fn read(
    door: &OpenFaas,
    identity: &Identity,
    origin: Origin,
    package: Package,
) -> Result<Wanted, Fault> {
    let Package { config, context, dockerfile, secrets, .. } = package;
    let image = config.image.ok_or_else(|| Fault::bad("no target reference to push"))?;
    // As the real ones push it.
    let named = BaseRef::parse(&image.to_ascii_lowercase()).map_err(|error| Fault::bad(error.to_string()))?;
    let Some(tag) = named.tag().filter(|_| named.digest().is_none()) else {
        return Err(Fault::bad("the image to be made can't have a digest in its name"));
    };
    let target = Target::parse(&format!("{}:{tag}", named.repository())).map_err(|e| Fault::bad(e.to_string()))?;
    let foreign = |e: kiln_auth::OutOfScope| Fault::new(StatusCode::FORBIDDEN, e.to_string());
    let target = identity.scope().admit(target).map_err(foreign)?;
    let names_registry = permit(door, named.host())?;
    let argument = |error| Fault::bad(format!("buildArgs: {error}"));
    let args = config.build_args.into_iter();
    let args = args.map(|(name, value)| Ok((BuildArg::parse(&name).map_err(argument)?, value)));
    let args: BTreeMap<_, _> = args.collect::<Result<_, Fault>>()?;
    let default = door.build_args.iter().map(|(name, value)| (name.clone(), value.clone()));
    let platforms = config.platforms.iter().map(|platform| platform.parse()).collect::<Result<_, _>>();
    let context = Context {
        tree: Arc::new(context),
        dockerfile,
        // Of two of one name the later one counts: the archive's own.
        args: default.chain(args).collect(),
        platforms: platforms.map_err(|error: crate::registry::InvalidPlatform| Fault::bad(error.to_string()))?,
        frontend: config.frontend,
        secrets: secrets::open(door, secrets).await?,
    };
    let request = Request {
        any_target: identity.scope().is_unbounded(),
        names_registry,
        skip_push: config.skip_push,
        ..Request::default()
    };
    let submission = Submission {
        origin,
        registry: named.host().to_string(),
        target,
        request,
        file: None,
        content: None,
        input: None,
        owner_settings: BTreeMap::new(),
        webhook: None,
    };
    Ok(Wanted { submission, context, image })
}

/// Whether the archive named a registry of its own accord: not if it is the installation's.
fn permit(door: &OpenFaas, host: &Host) -> Result<bool, Fault> {
    if door.registry.push_host(&BTreeMap::new()).is_ok_and(|installation| installation == *host) {
        return Ok(false);
    }
    if door.registries.iter().any(|pattern| matches(pattern, host.as_str())) {
        return Ok(true);
    }
    let text = format!("images may not go to {host}; the operator permits it with openfaas.registries");
    Err(Fault::new(StatusCode::FORBIDDEN, text))
}
