//! One image: its manifest, configuration, layers, and how large they are.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use kiln_auth::{Identity, ScopedTarget};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    AT_ONCE, Images, ImagesError, Name,
    document::{Document, PlatformOf},
    in_time,
};
use crate::registry::{Push, Raw, RegistryError};

/// The most that a configuration may have to be looked into, in bytes.
const CONFIG: u64 = 1024 * 1024;

/// The most images of one index that are looked at.
const PARTS: usize = 32;

/// An image in short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Bytes of configurations and layers, as they lie in the registry.
    pub size: u64,
    /// When it was made, where it says so.
    pub created: Option<Timestamp>,
    /// `os/architecture[/variant]` of each image in it.
    pub platforms: Vec<String>,
}

/// An image with all that there is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Image {
    /// The repository.
    pub catalog: String,
    /// The tag, where it was named by it.
    pub tag: Option<String>,
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Bytes of configurations and layers, as they lie in the registry.
    pub size: u64,
    /// When it was made, where it says so.
    pub created: Option<Timestamp>,
    /// `os/architecture[/variant]` of each image in it.
    pub platforms: Vec<String>,
    /// Of the manifest.
    pub media_type: String,
    /// The images of an index, or the one that it is.
    pub images: Vec<Part>,
    /// Those of the one image; an index has its own in `images`.
    pub layers: Vec<Layer>,
    /// As it lies in the registry.
    #[schema(value_type = serde_json::Value)]
    pub manifest: Box<RawValue>,
    /// As it lies in the registry; null of an index, and where it is large or no JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    pub config: Option<Box<RawValue>>,
}

/// An image for one platform.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ImagePart)]
pub struct Part {
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Bytes of configuration and layers.
    pub size: u64,
    /// When it was made, where it says so.
    pub created: Option<Timestamp>,
}

/// A layer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Layer {
    /// `sha256:…` of its bytes in the registry.
    pub digest: String,
    /// How many.
    pub size: u64,
    /// How they are packed.
    pub media_type: String,
}

/// What of a configuration is shown by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    created: Option<String>,
    #[serde(flatten)]
    platform: PlatformOf,
}

impl Images {
    /// An image of the caller's.
    ///
    /// # Errors
    /// See [`ImagesError`].
    pub async fn get(&self, identity: &Identity, name: &Name) -> Result<Image, ImagesError> {
        let reference = name.reference()?;
        in_time(async {
            let asking = self.ask(identity).await?;
            let raw = self.0.registry.raw(&asking.push, name.at(), reference).await?;
            self.image(&asking.push, name, raw).await
        })
        .await
    }

    async fn image(&self, push: &Push, name: &Name, raw: Raw) -> Result<Image, ImagesError> {
        let at = name.at();
        let document = read(push, at, &raw)?;
        let images = self.parts(push, at, &raw, &document).await?;
        let Summary { size, created, platforms, .. } = Summary::of(&raw.digest, &images);
        let layer = |part: &super::document::Descriptor| Layer {
            digest: part.digest.clone(),
            size: part.size,
            media_type: part.media_type.clone(),
        };
        let config = self.config(push, at, &document).await?;
        Ok(Image {
            catalog: at.repository().to_owned(),
            tag: name.tag().map(str::to_owned),
            digest: raw.digest,
            size,
            created,
            platforms,
            layers: document.layers.iter().map(layer).collect(),
            manifest: as_it_is(&raw.bytes).ok_or(ImagesError::Missing)?,
            config: config.as_ref().and_then(as_it_is),
            media_type: raw.media_type,
            images,
        })
    }

    /// In short what a tag names, asked anew, and its digest looked up once.
    pub(super) async fn summary(&self, push: &Push, at: &ScopedTarget) -> Result<Arc<Summary>, ImagesError> {
        let shared = &self.0;
        let digest = shared.registry.head(push, at, None).await?.ok_or(ImagesError::Missing)?;
        let key = (push.host.to_string(), at.repository().to_owned(), digest.clone());
        if let Some(known) = shared.summaries.get(&key).await {
            return Ok(known);
        }
        let raw = shared.registry.raw(push, at, &digest).await?;
        let document = read(push, at, &raw)?;
        let parts = self.parts(push, at, &raw, &document).await?;
        let summary = Arc::new(Summary::of(&digest, &parts));
        shared.summaries.insert(key, Arc::clone(&summary)).await;
        Ok(summary)
    }

    /// The images that a manifest is, or has.
    async fn parts(
        &self,
        push: &Push,
        at: &ScopedTarget,
        raw: &Raw,
        document: &Document,
    ) -> Result<Vec<Part>, ImagesError> {
        if !document.is_index {
            return Ok(vec![self.part(push, at, &raw.digest, document, None).await?]);
        }
        let images: Vec<_> = document.images().collect();
        if images.len() > PARTS {
            return Err(invalid(push, at, format!("it is an index of more than {PARTS} images")));
        }
        let read_one = |image: &super::document::Descriptor| {
            let (digest, platform) = (image.digest.clone(), image.platform.as_ref().and_then(PlatformOf::text));
            async move {
                let raw = self.0.registry.raw(push, at, &digest).await?;
                self.part(push, at, &digest, &read(push, at, &raw)?, platform).await
            }
        };
        // Made before they run: a closure that borrows from what it is given doesn't go through a stream.
        let asked: Vec<_> = images.into_iter().map(read_one).collect();
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    async fn part(
        &self,
        push: &Push,
        at: &ScopedTarget,
        digest: &str,
        document: &Document,
        platform: Option<String>,
    ) -> Result<Part, ImagesError> {
        let config = self.config(push, at, document).await?;
        let config: Configuration = config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let created = config.created.and_then(|text| text.parse().ok());
        let platform = platform.or_else(|| config.platform.text());
        Ok(Part { platform, digest: digest.to_owned(), size: document.size(), created })
    }

    /// The configuration, where there is one that isn't large.
    async fn config(&self, push: &Push, at: &ScopedTarget, document: &Document) -> Result<Option<Bytes>, ImagesError> {
        match &document.config {
            Some(config) if config.size <= CONFIG => {
                let limit = usize::try_from(CONFIG).unwrap_or(usize::MAX);
                match self.0.registry.small_blob(push, at, &config.digest, limit).await {
                    Ok(bytes) => Ok(Some(bytes)),
                    // Swept by the registry: what is left is shown.
                    Err(RegistryError::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            _ => Ok(None),
        }
    }
}

impl Summary {
    fn of(digest: &str, parts: &[Part]) -> Self {
        Self {
            digest: digest.to_owned(),
            size: parts.iter().fold(0, |size, part| size.saturating_add(part.size)),
            created: parts.iter().filter_map(|part| part.created).max(),
            platforms: parts.iter().filter_map(|part| part.platform.clone()).collect(),
        }
    }
}

/// Reads a manifest.
pub(super) fn read(push: &Push, at: &ScopedTarget, raw: &Raw) -> Result<Document, ImagesError> {
    Document::read(raw).map_err(|cause| invalid(push, at, cause))
}

fn invalid(push: &Push, at: &ScopedTarget, cause: String) -> ImagesError {
    let what = at.repository().to_owned();
    ImagesError::Registry(RegistryError::Invalid { host: push.host.clone(), what, cause })
}

/// Its text, if it is JSON.
fn as_it_is(bytes: &Bytes) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(bytes.to_vec()).ok()?).ok()
}
