//! The caller's repositories, and the images of one, a page at a time.

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use kiln_auth::{Identity, grammar::is_tag};
use serde::Serialize;
use utoipa::ToSchema;

use super::{AT_ONCE, Asking, Images, ImagesError, Name, Summary, in_time};
use crate::registry::{Names, Push, RegistryError};

/// A page of repositories.
#[derive(Debug, Serialize, ToSchema)]
pub struct Catalogues {
    /// In order.
    pub catalogs: Vec<String>,
    /// False where the registry lists none for Kiln, so that these are those that Kiln built into.
    pub complete: bool,
    /// What to ask for the next page with, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A page of images.
#[derive(Debug, Serialize, ToSchema)]
pub struct Catalogue {
    /// The repository.
    pub catalog: String,
    /// In the order of their tags.
    pub images: Vec<Entry>,
    /// What to ask for the next page with, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A tag, and what it names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImageEntry)]
pub struct Entry {
    /// The tag.
    pub tag: String,
    /// `sha256:…` of its manifest; null where that can't be read.
    pub digest: Option<String>,
    /// Bytes of configurations and layers, as they lie in the registry.
    pub size: Option<u64>,
    /// When it was made, where it says so.
    pub created: Option<Timestamp>,
    /// `os/architecture[/variant]` of each image in it.
    pub platforms: Vec<String>,
    /// Why there is no more to be said, one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Images {
    /// The repositories of the caller's behind the one that `after` names: `u` first, then `u/…`.
    ///
    /// The registry's list has everybody's, so it is entered right before what begins with `u/`, and left at
    /// the first that doesn't: what others have costs nothing. Registries that list nothing have their answer
    /// from the ledger.
    ///
    /// # Errors
    /// See [`ImagesError`].
    pub async fn catalogues(
        &self,
        identity: &Identity,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Catalogues, ImagesError> {
        let own = identity.user().as_str();
        let below = format!("{own}/");
        let place = after.unwrap_or_default();
        if !place.is_empty() && place != own && (!place.starts_with(&below) || Name::parse(identity, place).is_err()) {
            return Err(ImagesError::Cursor);
        }
        in_time(async {
            let Asking { push, _turn } = self.ask(identity).await?;
            let last = if place.len() > own.len() { place } else { below.as_str() };
            let listed = self.0.registry.repositories(&push, last, limit + 1).await?;
            // One that begins before the place it was told knows nothing of places.
            let listed = listed.filter(|listed| listed.names.first().is_none_or(|first| !goes_before(first, last)));
            let complete = listed.is_some();
            let (mut catalogs, more) = match listed {
                Some(Names { mut names, more }) => {
                    let mine = names.iter().take_while(|name| name.starts_with(&below)).count();
                    let more = more && mine == names.len();
                    names.truncate(mine);
                    names.retain(|name| name != place && Name::parse(identity, name).is_ok());
                    (names, more)
                }
                None => {
                    let mut built = self.0.builds.repositories(identity.user(), &push.host.to_string()).await?;
                    built.retain(|name| name.starts_with(&below) && name.as_str() > place);
                    // A page at most: what is further behind is asked about for the next one.
                    let more = built.len() > limit;
                    built.truncate(limit);
                    (self.proved(&push, identity, built).await?, more)
                }
            };
            if place.is_empty() {
                catalogs.splice(..0, self.proved(&push, identity, vec![own.to_owned()]).await?);
            }
            let more = more || catalogs.len() > limit;
            catalogs.truncate(limit);
            let next = catalogs.last().filter(|_| more).cloned();
            Ok(Catalogues { catalogs, complete, next })
        })
        .await
    }

    /// Those of these repositories that the registry has.
    async fn proved(&self, push: &Push, identity: &Identity, names: Vec<String>) -> Result<Vec<String>, ImagesError> {
        let ask = |name: String| async move {
            let at = Name::parse(identity, &name)?;
            match self.0.registry.tags(push, at.at(), "", 1).await {
                Ok(tags) => Ok((!tags.names.is_empty()).then_some(name)),
                // Some say so of what isn't there.
                Err(RegistryError::NotFound { .. } | RegistryError::Forbidden { .. }) => Ok(None),
                Err(error) => Err(ImagesError::from(error)),
            }
        };
        let asked: Vec<_> = names.into_iter().map(ask).collect();
        let answers: Vec<Result<Option<String>, ImagesError>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        Ok(answers.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The images of a repository of the caller's, behind the tag that `after` names.
    ///
    /// # Errors
    /// See [`ImagesError`].
    pub async fn list(
        &self,
        identity: &Identity,
        catalogue: &Name,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Catalogue, ImagesError> {
        let place = after.unwrap_or_default();
        if !place.is_empty() && !is_tag(place) {
            return Err(ImagesError::Cursor);
        }
        in_time(async {
            let Asking { push, _turn } = self.ask(identity).await?;
            let (tags, next) = self.tags(&push, catalogue, place, limit).await?;
            let push = &push;
            let ask = |tag: String| async move {
                let at = catalogue.at().beside(&tag).ok_or(ImagesError::Missing)?;
                match self.summary(push, &at).await {
                    Ok(image) => Ok(Some(Entry::of(tag, &image))),
                    // It went between two questions.
                    Err(ImagesError::Missing) => Ok(None),
                    Err(ImagesError::Registry(error @ RegistryError::Invalid { .. })) => {
                        Ok(Some(Entry::unread(tag, &error)))
                    }
                    Err(error) => Err(error),
                }
            };
            let asked: Vec<_> = tags.into_iter().map(ask).collect();
            let entries: Vec<Result<Option<Entry>, ImagesError>> =
                stream::iter(asked).buffered(AT_ONCE).collect().await;
            let images = entries.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            Ok(Catalogue { catalog: catalogue.at().repository().to_owned(), images, next })
        })
        .await
    }

    /// A page of tags in order, and where the next one begins.
    pub(super) async fn tags(
        &self,
        push: &Push,
        catalogue: &Name,
        place: &str,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>), ImagesError> {
        let mut given = self.0.registry.tags(push, catalogue.at(), place, limit + 1).await?;
        // Some registries give them all, in no order; none is to give what can't be one.
        given.names.retain(|tag| is_tag(tag) && tag.as_str() > place);
        given.names.sort_unstable();
        given.names.dedup();
        let more = given.names.len() > limit || given.more;
        given.names.truncate(limit);
        let next = given.names.last().filter(|_| more).cloned();
        Ok((given.names, next))
    }
}

impl Entry {
    fn of(tag: String, image: &Summary) -> Self {
        let Summary { digest, size, created, platforms } = image.clone();
        Self { tag, digest: Some(digest), size: Some(size), created, platforms, error: None }
    }

    fn unread(tag: String, error: &RegistryError) -> Self {
        Self { tag, digest: None, size: None, created: None, platforms: Vec::new(), error: Some(error.to_string()) }
    }
}

/// Whether a list that is in order has `name` before `place`, by bytes as well as by path components: registries
/// order by either.
fn goes_before(name: &str, place: &str) -> bool {
    name < place && name.split('/').lt(place.split('/'))
}
