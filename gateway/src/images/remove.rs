//! Images are removed by tag or by digest, one at a time in a repository.

use futures_util::{StreamExt as _, stream};
use kiln_auth::{Identity, Origin, audit};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{ANSWER_WITHIN, AT_ONCE, Images, ImagesError, Name};
use crate::registry::{Push, Raw, Removal};

/// The most tags of a repository that are looked at to know which ones name an image.
const TAGS: usize = 2000;

/// A digest that nothing has: asked for its removal, a registry says whether it removes anything at all.
const NOTHING: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What went.
#[derive(Debug, Serialize, ToSchema)]
pub struct Removed {
    /// The repository.
    pub catalog: String,
    /// What the tag named.
    pub digest: String,
    /// The tags that went, as far as it is known: of an image that was named by its digest, none is looked for.
    pub tags: Vec<String>,
}

impl Images {
    /// Removes an image of the caller's. By tag only that tag goes, and with `all_tags` the image with all of
    /// its tags; by digest the image goes, and its tags with it.
    ///
    /// Where a build is under way in the same repository its image stays as it was, but without a tag: it may
    /// be the very one that the build is about to tag.
    ///
    /// # Errors
    /// See [`ImagesError`].
    pub async fn remove(
        &self,
        identity: &Identity,
        origin: Origin,
        name: &Name,
        all_tags: bool,
    ) -> Result<Removed, ImagesError> {
        name.reference()?;
        // A task of its own: a caller who goes away now must not leave it half done.
        let (images, identity, name) = (self.clone(), identity.clone(), name.clone());
        let work = async move {
            let removed = images.remove_now(&identity, &name, all_tags).await;
            let line = audit::Line::by("delete-image", identity.user()).from(origin).target(&name);
            match &removed {
                Ok(_) => line.done(),
                Err(error) => line.reason(error).refused(),
            }
            removed
        };
        tokio::spawn(work).await.unwrap_or(Err(ImagesError::Late))
    }

    async fn remove_now(&self, identity: &Identity, name: &Name, all_tags: bool) -> Result<Removed, ImagesError> {
        let turns = async {
            let asking = self.ask(identity).await?;
            let registry = asking.push.host.to_string();
            let turn = self.0.builds.turn_of_repository(&registry, name.at().repository()).await;
            Ok::<_, ImagesError>((asking, turn))
        };
        // A build whose registry is slow may hold the turn for long.
        let (asking, _turn) = timeout(ANSWER_WITHIN / 3, turns).await.unwrap_or(Err(ImagesError::Late))?;
        let push = &asking.push;
        let raw = self.0.registry.raw(push, name.at(), name.reference()?).await?;
        let removed = |tags| Removed { catalog: name.at().repository().to_owned(), digest: raw.digest.clone(), tags };
        let Some(tag) = name.tag() else {
            self.remove_digest(push, name, &raw).await?;
            return Ok(removed(Vec::new()));
        };
        let alone = || vec![tag.to_owned()];
        if !all_tags {
            match self.0.registry.remove(push, name.at(), tag).await? {
                Removal::Done => return Ok(removed(alone())),
                Removal::Missing => return Err(ImagesError::Missing),
                Removal::OtherName => {}
                Removal::Unsupported => self.removes_anything(push, name).await?,
            }
        }
        let others = timeout(ANSWER_WITHIN / 2, self.others(push, name, &raw.digest));
        let others = others.await.unwrap_or(Err(ImagesError::Late));
        match others {
            Ok(tags) if !all_tags && !tags.is_empty() => Err(ImagesError::Shared { digest: raw.digest, tags }),
            Ok(tags) => {
                self.remove_digest(push, name, &raw).await?;
                let mut all: Vec<_> = tags.into_iter().chain(alone()).collect();
                all.sort_unstable();
                Ok(removed(all))
            }
            Err(ImagesError::ManyTags(_)) if all_tags => {
                self.remove_digest(push, name, &raw).await?;
                Ok(removed(alone()))
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a manifest, with its tags.
    async fn remove_digest(&self, push: &Push, name: &Name, raw: &Raw) -> Result<(), ImagesError> {
        let at = name.at();
        match self.0.registry.remove(push, at, &raw.digest).await? {
            Removal::Done => {}
            Removal::Missing => return Err(ImagesError::Missing),
            Removal::OtherName | Removal::Unsupported => {
                return Err(ImagesError::DeleteDisabled(push.host.to_string()));
            }
        }
        if self.0.builds.pushes_into(&push.host.to_string(), at.repository()).await? {
            self.0.registry.put(push, at, &raw.digest, raw).await?;
        }
        Ok(())
    }

    /// That the registry removes manifests, if not tags.
    async fn removes_anything(&self, push: &Push, name: &Name) -> Result<(), ImagesError> {
        match self.0.registry.remove(push, name.at(), NOTHING).await? {
            Removal::Unsupported => Err(ImagesError::DeleteDisabled(push.host.to_string())),
            _ => Ok(()),
        }
    }

    /// The other tags of its repository that name this image.
    async fn others(&self, push: &Push, name: &Name, digest: &str) -> Result<Vec<String>, ImagesError> {
        let (tags, more) = self.tags(push, name, "", TAGS).await?;
        if more.is_some() {
            return Err(ImagesError::ManyTags(TAGS));
        }
        let ask = |tag: String| async move {
            let at = name.at().beside(&tag).ok_or(ImagesError::Missing)?;
            let named = self.0.registry.head(push, &at, None).await?;
            Ok((named.as_deref() == Some(digest)).then_some(tag))
        };
        let others = tags.into_iter().filter(|tag| Some(tag.as_str()) != name.tag());
        let asked: Vec<_> = others.map(ask).collect();
        let found: Vec<Result<Option<String>, ImagesError>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        Ok(found.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }
}
