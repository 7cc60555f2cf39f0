//! An image gets another name within its owner's repositories: blobs stay where the registry has them.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_auth::{Identity, Origin, audit};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{ANSWER_WITHIN, AT_ONCE, Asking, Images, ImagesError, Name, What, document::Document, inspect::read};
use crate::registry::{Push, Raw};

/// The most images, attestations included, of an index that is copied.
const PARTS: usize = 64;

/// The most blobs of one image; engines make 127 layers.
const BLOBS: usize = 512;

/// What there is now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Copied {
    /// The repository.
    pub catalog: String,
    /// The tag.
    pub tag: String,
    /// What it names.
    pub digest: String,
}

impl Images {
    /// Puts the tag `to` on the image `from`, both the caller's.
    ///
    /// # Errors
    /// See [`ImagesError`].
    pub async fn copy(
        &self,
        identity: &Identity,
        origin: Origin,
        from: &Name,
        to: &Name,
    ) -> Result<Copied, ImagesError> {
        from.reference()?;
        if to.what() != &What::Tag {
            return Err(ImagesError::NoTag(to.at().repository().to_owned()));
        }
        // A task of its own: a caller who goes away now must not leave it half done.
        let (images, identity, from, to) = (self.clone(), identity.clone(), from.clone(), to.clone());
        let work = async move {
            let copied = timeout(ANSWER_WITHIN, images.copy_now(&identity, &from, &to)).await;
            let copied = copied.unwrap_or(Err(ImagesError::Late));
            let line = audit::Line::by("copy-image", identity.user()).from(origin).target(&to);
            match &copied {
                Ok(_) => line.reason(&format_args!("a copy of {from}")).done(),
                Err(error) => line.reason(error).refused(),
            }
            copied
        };
        tokio::spawn(work).await.unwrap_or(Err(ImagesError::Late))
    }

    async fn copy_now(&self, identity: &Identity, from: &Name, to: &Name) -> Result<Copied, ImagesError> {
        let Asking { push, _turn } = self.ask(identity).await?;
        let raw = self.0.registry.raw(&push, from.at(), from.reference()?).await?;
        if from.at().repository() != to.at().repository() {
            self.carry(&push, from, to, &raw).await?;
        }
        let _turn = self.0.builds.turn_of_tag(&push.host.to_string(), to.at()).await;
        self.0.registry.put(&push, to.at(), to.at().tag(), &raw).await?;
        let (catalog, tag) = (to.at().repository().to_owned(), to.at().tag().to_owned());
        Ok(Copied { catalog, tag, digest: raw.digest })
    }

    /// Brings into the other repository what a manifest names.
    async fn carry(&self, push: &Push, from: &Name, to: &Name, raw: &Raw) -> Result<(), ImagesError> {
        let document = read(push, from.at(), raw)?;
        if !document.is_index {
            return self.carry_blobs(push, from, to, &document).await;
        }
        if document.manifests.len() > PARTS {
            return Err(ImagesError::NotCopied(format!("it is an index of more than {PARTS} images")));
        }
        // One after the other: each may be as large as a manifest can.
        for part in &document.manifests {
            let raw = self.0.registry.raw(push, from.at(), &part.digest).await?;
            let document = read(push, from.at(), &raw)?;
            if document.is_index {
                return Err(ImagesError::NotCopied("it is an index of indexes".to_owned()));
            }
            self.carry_blobs(push, from, to, &document).await?;
            self.0.registry.put(push, to.at(), &raw.digest, &raw).await?;
        }
        Ok(())
    }

    async fn carry_blobs(&self, push: &Push, from: &Name, to: &Name, document: &Document) -> Result<(), ImagesError> {
        // What lies elsewhere is in no repository.
        let layers = document.layers.iter().filter(|layer| layer.urls.is_empty());
        let blobs: BTreeSet<_> = document.config.iter().chain(layers).map(|part| part.digest.as_str()).collect();
        if blobs.len() > BLOBS {
            return Err(ImagesError::NotCopied(format!("it has more than {BLOBS} layers")));
        }
        let registry = &self.0.registry;
        let carry = |digest: String| async move {
            match registry.mount(push, from.at(), to.at(), &digest).await? {
                None => Ok(()),
                Some(place) => registry.pass_on(push, from.at(), to.at(), &digest, place).await,
            }
        };
        let asked: Vec<_> = blobs.into_iter().map(|digest| carry(digest.to_owned())).collect();
        stream::iter(asked).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(())
    }
}
