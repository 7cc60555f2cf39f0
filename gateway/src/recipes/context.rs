//! *Context*: a folder with a Dockerfile, both the caller's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kiln_backends::{BuildArg, Capabilities, EntryKind, Failure, Reason, Tree};

use super::DOCKERFILE;
use crate::{registry::Platform, sealed::Secrets};

/// What the caller wants built.
#[derive(Clone, Debug)]
pub struct Context {
    /// The folder.
    pub tree: Arc<Tree>,
    /// The Dockerfile's path within it.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<BuildArg, String>,
    /// The platforms to build for; empty is the engine's own.
    pub platforms: Vec<Platform>,
    /// The frontend that the caller names beside the Dockerfile.
    pub frontend: Option<String>,
    /// What steps may mount, by id. Kept nowhere else.
    pub secrets: Secrets,
}

impl Context {
    /// The platforms by name, each once, if the engine has them all and can push them together.
    ///
    /// # Errors
    /// `BaseUnsupported`, naming what the engine has.
    pub fn platforms(&self, engine: &Capabilities) -> Result<Vec<String>, Failure> {
        let unsupported = |message| Err(Failure::new(Reason::BaseUnsupported, message));
        let available = engine.platforms.join(", ");
        let has: Vec<Platform> = engine.platforms.iter().filter_map(|platform| platform.parse().ok()).collect();
        if let Some(missing) =
            self.platforms.iter().find(|wanted| !has.iter().any(|platform| platform.satisfies(wanted)))
        {
            return unsupported(format!("the engine can't build for {missing}; it has {available}"));
        }
        let platforms: BTreeSet<String> = self.platforms.iter().map(ToString::to_string).collect();
        if platforms.len() > 1 && !engine.indexes {
            return unsupported(format!(
                "the engine builds for one platform at a time; ask for one of {available}, or the operator for an engine \
                 that pushes several as one image"
            ));
        }
        Ok(platforms.into_iter().collect())
    }
}

/// Whether a folder has that Dockerfile. The frontend takes a lower-case name, too, where the usual one is missing,
/// and is asked for the usual one either way. Links are its business: it follows them within the context.
pub(crate) fn has_dockerfile(tree: &Tree, path: &str) -> bool {
    let is_there = |path: &str| tree.get(path).is_some_and(|entry| entry.kind != EntryKind::Dir);
    is_there(path) || (path == DOCKERFILE && is_there("dockerfile"))
}

#[cfg(test)]
mod tests {
    use kiln_backends::{StepLimits, StepNetwork};

    use super::*;

    #[test]
    fn a_platform_that_the_engine_lacks_is_refused_with_those_it_has() {
        let context = |platforms: &[&str]| Context {
            tree: Arc::new(Tree::builder().build()),
            dockerfile: DOCKERFILE.to_owned(),
            args: BTreeMap::new(),
            platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
            frontend: None,
            secrets: Secrets::new(),
        };
        let engine = |indexes| Capabilities {
            engine: "buildkitd".to_owned(),
            version: String::new(),
            platforms: vec!["linux/amd64".to_owned(), "linux/386".to_owned()],
            atomic_tag: indexes,
            indexes,
            keeps_cache: true,
            step_network: StepNetwork::Own,
            step_limits: StepLimits::default(),
            warnings: Vec::new(),
        };
        let (one, several) = (engine(false), engine(true));
        assert_eq!(context(&[]).platforms(&one).unwrap(), [""; 0]);
        assert_eq!(context(&["linux/386", "linux/386"]).platforms(&one).unwrap(), ["linux/386"]);
        let both = context(&["linux/amd64", "linux/386"]);
        assert_eq!(both.platforms(&several).unwrap(), ["linux/386", "linux/amd64"]);
        let failure = context(&["linux/amd64", "linux/arm64"]).platforms(&several).unwrap_err();
        assert_eq!(failure.message, "the engine can't build for linux/arm64; it has linux/amd64, linux/386");
        let failure = both.platforms(&one).unwrap_err();
        assert!(failure.message.starts_with("the engine builds for one platform at a time"), "{failure:?}");
    }
}
