//! A repository looked into and tidied up: its tags and manifests, what is removed, what is taken over from another.
//!
//! Every method takes the repository as a target that was proved to be its owner's; which tag that names counts
//! only where nothing else is said.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use kiln_auth::ScopedTarget;
use reqwest::{Body, Url};
use serde::Deserialize;

use super::{
    auth::{Access, Right},
    client::{RegistryClient, content_digest, whole},
    destination::Push,
    error::RegistryError,
    manifest::{Raw, digest_of},
};

/// What a list of names may have, in bytes: some thirty thousand tags. Registries of before version 1.1 of the
/// distribution specification give all tags at once.
const NAMES: usize = 4 * 1024 * 1024;

/// A list of names as the registry gives it.
pub(crate) struct Names {
    pub(crate) names: Vec<String>,
    /// Whether the registry says that there are more.
    pub(crate) more: bool,
}

/// What a registry made of a removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    /// It is gone.
    Done,
    /// There was nothing.
    Missing,
    /// The registry removes nothing by such a name: it wants another kind of name.
    OtherName,
    /// The registry doesn't remove such things, or nothing at all.
    Unsupported,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalogue {
    repositories: Option<Vec<String>>,
}

impl RegistryClient {
    /// The names of repositories behind `last` in the registry's order, everybody's; `None` where the registry
    /// lists none, or not for this credential.
    pub(crate) async fn repositories(
        &self,
        push: &Push,
        last: &str,
        at_most: usize,
    ) -> Result<Option<Names>, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: "", right: Right::List };
        let url = endpoint.url("_catalog");
        let get = || endpoint.client.get(&url).query(&[("n", at_most.to_string().as_str()), ("last", last)]);
        let what = "the list of repositories";
        let response = match self.send(&endpoint, Some(access), push.credential.as_ref(), get).await {
            // The token service doesn't grant it.
            Err(RegistryError::Forbidden { .. }) => return Ok(None),
            other => other?,
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => return Ok(None),
            _ => return Err(endpoint.refusal(what, response).await),
        }
        let more = response.headers().contains_key(header::LINK);
        let body = endpoint.read(response, what, NAMES).await?;
        let read: Catalogue =
            serde_json::from_slice(&body).map_err(|error| endpoint.invalid(what, format!("it is no list: {error}")))?;
        Ok(Some(Names { names: read.repositories.unwrap_or_default(), more }))
    }

    /// The tags of a repository behind `last`, as the registry orders them; a registry may give them all.
    pub(crate) async fn tags(
        &self,
        push: &Push,
        at: &ScopedTarget,
        last: &str,
        at_most: usize,
    ) -> Result<Names, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: at.repository(), right: Right::Pull };
        let url = endpoint.url(&format!("{}/tags/list", at.repository()));
        let mut query = vec![("n", at_most.to_string())];
        query.extend((!last.is_empty()).then(|| ("last", last.to_owned())));
        let get = || endpoint.client.get(&url).query(&query);
        let response = self.send(&endpoint, Some(access), push.credential.as_ref(), get).await?;
        let what = format!("the list of tags of {}", at.repository());
        if response.status() != StatusCode::OK {
            return Err(endpoint.refusal(&what, response).await);
        }
        let more = response.headers().contains_key(header::LINK);
        let body = endpoint.read(response, &what, NAMES).await?;
        let read: Tags = serde_json::from_slice(&body)
            .map_err(|error| endpoint.invalid(&what, format!("it is no list: {error}")))?;
        Ok(Names { names: read.tags.unwrap_or_default(), more })
    }

    /// A manifest by tag or digest, its digest verified.
    pub(crate) async fn raw(&self, push: &Push, at: &ScopedTarget, reference: &str) -> Result<Raw, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: at.repository(), right: Right::Pull };
        self.manifest(&endpoint, access, reference, push.credential.as_ref()).await
    }

    /// A blob of at most `limit` bytes, its digest verified.
    pub(crate) async fn small_blob(
        &self,
        push: &Push,
        at: &ScopedTarget,
        digest: &str,
        limit: usize,
    ) -> Result<Bytes, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: at.repository(), right: Right::Pull };
        let url = endpoint.url(&format!("{}/blobs/{digest}", at.repository()));
        let what = whole(access, digest);
        let response =
            self.send(&endpoint, Some(access), push.credential.as_ref(), || endpoint.client.get(&url)).await?;
        if response.status() != StatusCode::OK {
            return Err(endpoint.refusal(&what, response).await);
        }
        let bytes = endpoint.read(response, &what, limit).await?;
        match digest_of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(endpoint.invalid(&what, "its content has another digest")),
        }
    }

    /// Removes a tag, or a manifest by its digest, with which its tags go.
    pub(crate) async fn remove(
        &self,
        push: &Push,
        at: &ScopedTarget,
        reference: &str,
    ) -> Result<Removal, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: at.repository(), right: Right::Delete };
        let url = endpoint.url(&format!("{}/manifests/{reference}", at.repository()));
        let delete = || endpoint.client.delete(&url);
        let response = self.send(&endpoint, Some(access), push.credential.as_ref(), delete).await?;
        self.tag_moved(push, at).await;
        match response.status() {
            status if status.is_success() => Ok(Removal::Done),
            StatusCode::NOT_FOUND => Ok(Removal::Missing),
            StatusCode::BAD_REQUEST => Ok(Removal::OtherName),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(Removal::Unsupported),
            _ => Err(endpoint.refusal(&whole(access, reference), response).await),
        }
    }

    /// Puts a manifest under a tag or its own digest; what it names is in the repository.
    pub(crate) async fn put(
        &self,
        push: &Push,
        at: &ScopedTarget,
        reference: &str,
        raw: &Raw,
    ) -> Result<(), RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: at.repository(), right: Right::Push };
        let url = endpoint.url(&format!("{}/manifests/{reference}", at.repository()));
        let put = || endpoint.client.put(&url).header(header::CONTENT_TYPE, &raw.media_type).body(raw.bytes.clone());
        let response = self.send(&endpoint, Some(access), push.credential.as_ref(), put).await?;
        let what = whole(access, reference);
        if !response.status().is_success() {
            return Err(endpoint.refusal(&what, response).await);
        }
        self.tag_moved(push, at).await;
        match content_digest(&response) {
            Some(stored) if stored != raw.digest => {
                Err(endpoint.invalid(&what, format!("it was stored as {stored} instead of {}", raw.digest)))
            }
            _ => Ok(()),
        }
    }

    /// Has the registry take a blob over from another repository, no byte of which passes through here; where it
    /// wants it uploaded, it says whither.
    pub(crate) async fn mount(
        &self,
        push: &Push,
        from: &ScopedTarget,
        to: &ScopedTarget,
        digest: &str,
    ) -> Result<Option<Url>, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: to.repository(), right: Right::Mount(from.repository()) };
        let url = endpoint.url(&format!("{}/blobs/uploads/", to.repository()));
        let post = || {
            let request = endpoint.client.post(&url).query(&[("mount", digest), ("from", from.repository())]);
            request.header(header::CONTENT_LENGTH, 0)
        };
        let response = self.send(&endpoint, Some(access), push.credential.as_ref(), post).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => {
                let location = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
                let place = location.and_then(|place| response.url().join(place).ok());
                // The credential goes along, so it is the same registry or nowhere.
                let place = place.filter(|place| place.origin() == response.url().origin());
                let nowhere = || endpoint.invalid(&whole(access, digest), "it is to be uploaded to nowhere known");
                place.ok_or_else(nowhere).map(Some)
            }
            _ => Err(endpoint.refusal(&whole(access, digest), response).await),
        }
    }

    /// Passes a blob on from one repository to `place`, where [`Self::mount`] said that another wants it.
    pub(crate) async fn pass_on(
        &self,
        push: &Push,
        from: &ScopedTarget,
        to: &ScopedTarget,
        digest: &str,
        mut place: Url,
    ) -> Result<(), RegistryError> {
        let (endpoint, credential) = (self.push_endpoint(push)?, push.credential.as_ref());
        let access = Access { repository: from.repository(), right: Right::Pull };
        let url = endpoint.url(&format!("{}/blobs/{digest}", from.repository()));
        let blob = self.send(&endpoint, Some(access), credential, || endpoint.client.get(&url)).await?;
        let length = blob.content_length();
        if blob.status() != StatusCode::OK {
            return Err(endpoint.refusal(&whole(access, digest), blob).await);
        }
        place.query_pairs_mut().append_pair("digest", digest);
        // Sent once: the authorization is known from a moment before. Whoever asks for it again gets nothing.
        let blob = Mutex::new(Some(blob));
        let put = || {
            let blob = blob.lock().unwrap_or_else(PoisonError::into_inner).take();
            let body = blob.map_or_else(Body::default, |blob| Body::wrap_stream(stream::try_unfold(blob, next_part)));
            let request = endpoint.client.put(place.clone()).header(header::CONTENT_TYPE, "application/octet-stream");
            let request = match length {
                Some(length) => request.header(header::CONTENT_LENGTH, length),
                None => request,
            };
            request.body(body)
        };
        let access = Access { repository: to.repository(), right: Right::Mount(from.repository()) };
        let response = self.send(&endpoint, Some(access), credential, put).await?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(endpoint.refusal(&whole(access, digest), response).await),
        }
    }
}

async fn next_part(mut blob: reqwest::Response) -> reqwest::Result<Option<(Bytes, reqwest::Response)>> {
    Ok(blob.chunk().await?.map(|part| (part, blob)))
}
