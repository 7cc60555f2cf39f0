//! A base image as its registry has it: pinned, with what Kiln must know of its configuration.

use std::collections::BTreeMap;

use super::{platform::Platform, reference::BaseRef};

/// A base image, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// `host/repository@sha256:…`: what the build's `FROM` names.
    pub reference: BaseRef,
    /// The digest of what the reference named: the index, where there is one.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The configuration for the first platform that was asked for.
    pub config: BaseConfig,
    /// All platforms that the image is made for.
    pub platforms: Vec<Platform>,
}

impl Base {
    /// Roughly what it takes in memory, in bytes, for a cache's bound.
    pub(super) fn weight(&self) -> u32 {
        /// A string's own parts and its place in a list or map.
        const EACH: usize = 96;
        let texts = self.config.env.iter().chain(&self.config.onbuild);
        let labels = self.config.labels.iter().flat_map(|(name, value)| [name, value]);
        let config: usize = texts.chain(labels).map(|text| text.len() + EACH).sum();
        u32::try_from(1024 + config + self.platforms.len() * EACH).unwrap_or(u32::MAX)
    }
}

/// What a base's configuration says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BaseConfig {
    /// `User`, verbatim; empty is root.
    pub user: String,
    /// `WorkingDir`.
    pub workdir: String,
    /// `Env`, `NAME=value` each.
    pub env: Vec<String>,
    /// `OnBuild`: instructions that run in whatever is built upon it.
    pub onbuild: Vec<String>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
    /// The operating system.
    pub os: String,
    /// The processor architecture.
    pub architecture: String,
    /// The architecture's variant.
    pub variant: Option<String>,
}
