//! *Context*: a folder with a Dockerfile, both the caller's own.

use std::{collections::BTreeMap, sync::Arc};

use kiln_backends::{BuildArg, Failure, Reason, Tree};

use crate::registry::Platform;

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
}

impl Context {
    /// The platforms by name, if the engine has them all: `available` are its own.
    ///
    /// # Errors
    /// `BaseUnsupported`, naming what the engine has.
    pub fn platforms(&self, available: &[String]) -> Result<Vec<String>, Failure> {
        let has: Vec<Platform> = available.iter().filter_map(|platform| platform.parse().ok()).collect();
        let missing = self.platforms.iter().find(|wanted| !has.iter().any(|platform| platform.satisfies(wanted)));
        match missing {
            None => Ok(self.platforms.iter().map(ToString::to_string).collect()),
            Some(missing) => {
                let message = format!("the engine can't build for {missing}; it has {}", available.join(", "));
                Err(Failure::new(Reason::BaseUnsupported, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_that_the_engine_lacks_is_refused_with_those_it_has() {
        let context = |platforms: &[&str]| Context {
            tree: Arc::new(Tree::builder().build()),
            dockerfile: "Dockerfile".to_owned(),
            args: BTreeMap::new(),
            platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
        };
        let has = ["linux/amd64".to_owned(), "linux/386".to_owned()];
        assert_eq!(context(&[]).platforms(&has).unwrap(), [""; 0]);
        assert_eq!(context(&["linux/386"]).platforms(&has).unwrap(), ["linux/386"]);
        let failure = context(&["linux/amd64", "linux/arm64"]).platforms(&has).unwrap_err();
        assert_eq!(failure.message, "the engine can't build for linux/arm64; it has linux/amd64, linux/386");
    }
}
