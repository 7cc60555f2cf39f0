//! Manifests, as far as their owners look at them: whatever else is in one stays as it is.

use serde::{Deserialize, Deserializer};

use crate::registry::{Raw, is_sha256};

const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// A manifest or an index.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    pub(super) config: Option<Descriptor>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) layers: Vec<Descriptor>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) manifests: Vec<Descriptor>,
    #[serde(skip)]
    pub(super) is_index: bool,
}

/// What a manifest says of a part.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<PlatformOf>,
    /// From where engines fetch it that isn't in the registry.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) urls: Vec<String>,
}

/// For what an image is made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PlatformOf {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) os: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) architecture: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) variant: String,
}

impl Document {
    /// Reads a manifest; the error is one sentence.
    pub(super) fn read(raw: &Raw) -> Result<Self, String> {
        let mut document: Self =
            serde_json::from_slice(&raw.bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        document.is_index = INDEXES.contains(&raw.media_type.as_str());
        // They become parts of URLs.
        let all = document.config.iter().chain(&document.layers).chain(&document.manifests);
        match all.into_iter().find(|part| !is_sha256(&part.digest)) {
            Some(part) => Err(format!("{:?} in it is no SHA-256 digest", part.digest)),
            None => Ok(document),
        }
    }

    /// Bytes of configuration and layers.
    pub(super) fn size(&self) -> u64 {
        self.config.iter().chain(&self.layers).fold(0, |size, part| size.saturating_add(part.size))
    }

    /// The images of an index; attestations lie beside them under the platform unknown/unknown.
    pub(super) fn images(&self) -> impl Iterator<Item = &Descriptor> {
        let attests = |part: &&Descriptor| part.platform.as_ref().is_some_and(|of| of.architecture == "unknown");
        self.manifests.iter().filter(move |part| !attests(part))
    }
}

impl PlatformOf {
    /// `os/architecture[/variant]`; `None` where it says nothing.
    pub(super) fn text(&self) -> Option<String> {
        let Self { os, architecture, variant } = self;
        let variant = if variant.is_empty() { String::new() } else { format!("/{variant}") };
        (!os.is_empty() && !architecture.is_empty()).then(|| format!("{os}/{architecture}{variant}"))
    }
}

/// Go writes empty lists and texts as `null`, or leaves them out.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
