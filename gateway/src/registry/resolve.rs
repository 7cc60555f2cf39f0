//! From a reference to a pinned base: which manifest it names, for which platforms, and what its
//! configuration says. Remembered for a while, and asked once however many wait for it.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::StatusCode;
use kiln_auth::ScopedTarget;
use moka::future::Cache;

use super::{
    auth::{Access, Right},
    base::{Base, BaseConfig},
    client::RegistryClient,
    credentials::{Credential, Credentials},
    destination::Push,
    endpoint::Endpoint,
    error::{RegistryError, ResolveError},
    host::Host,
    manifest::{Manifest, digest_of},
    platform::Platform,
    reference::BaseRef,
};

/// The most that a configuration may have, in bytes.
const CONFIG: usize = 1024 * 1024;

/// How long a tag is taken to stay where it is.
const TAG_KEPT: Duration = Duration::from_secs(10);

/// How long what a digest names is kept. It doesn't change, but the right to read it may end.
const DIGEST_KEPT: Duration = Duration::from_secs(600);

/// Tags remembered.
const TAGS: u64 = 10_000;

/// What remembered bases may take, in bytes; most have some KiB.
const BASES: u64 = 32 * 1024 * 1024;

/// What was resolved lately, by who asked.
pub(super) struct Resolutions {
    digests: Cache<Key, String>,
    bases: Cache<(Key, Vec<Platform>), Arc<Base>>,
}

/// An image, and the credential that opened it: what one caller may read says nothing about another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    host: Host,
    repository: String,
    reference: String,
    credential: Option<[u8; 32]>,
}

/// A question to one registry.
type Asking<'a, T> = BoxFuture<'a, Result<T, ResolveError>>;

impl Resolutions {
    pub(super) fn new() -> Self {
        Self {
            digests: Cache::builder().max_capacity(TAGS).time_to_live(TAG_KEPT).build(),
            bases: Cache::builder()
                .max_capacity(BASES)
                .weigher(|_, base: &Arc<Base>| base.weight())
                .time_to_live(DIGEST_KEPT)
                .build(),
        }
    }
}

impl RegistryClient {
    /// Finds the base that `reference` names, for `platforms`; without any, for Kiln's own.
    ///
    /// Mirrors are asked first, each with the credential that is for the mirror itself; whatever one of
    /// them answers but success, the next is asked, and the registry itself at last.
    ///
    /// # Errors
    /// What the registry itself answers; see [`ResolveError`].
    pub async fn resolve(
        &self,
        reference: &BaseRef,
        platforms: &[Platform],
        credentials: &Credentials,
    ) -> Result<Arc<Base>, ResolveError> {
        let native = [Platform::native()];
        let platforms = if platforms.is_empty() { &native[..] } else { platforms };
        let host = reference.host();
        let key = |name: &str| Key {
            host: host.clone(),
            repository: reference.repository().to_owned(),
            reference: name.to_owned(),
            credential: credentials.get(host).map(|credential| self.fingerprint(credential)),
        };
        let access = Access { repository: reference.repository(), right: Right::Pull };
        let digest = match reference.digest() {
            Some(digest) => digest.to_owned(),
            None => {
                let ask = |endpoint: Endpoint| -> Asking<'_, String> {
                    Box::pin(async move {
                        let credential = credentials.get(&endpoint.host);
                        Ok(self.digest(&endpoint, access, reference.reference(), credential).await?)
                    })
                };
                let digests = &self.resolutions().digests;
                digests.try_get_with(key(reference.reference()), self.first(host, ask)).await.map_err(unshared)?
            }
        };
        let pinned = reference.pinned(&digest);
        let ask = |endpoint: Endpoint| -> Asking<'_, Arc<Base>> {
            let (pinned, digest) = (pinned.clone(), digest.clone());
            Box::pin(async move {
                let credential = credentials.get(&endpoint.host);
                self.fetch(&endpoint, pinned, &digest, platforms, credential).await.map(Arc::new)
            })
        };
        let bases = &self.resolutions().bases;
        bases.try_get_with((key(&digest), platforms.to_vec()), self.first(host, ask)).await.map_err(unshared)
    }

    /// Forgets where a tag was, since Kiln has just moved it: who builds on what they pushed gets the newest.
    pub(super) async fn tag_moved(&self, push: &Push, target: &ScopedTarget) {
        for credential in [push.credential.as_ref(), None] {
            let key = Key {
                host: push.host.clone(),
                repository: target.repository().to_owned(),
                reference: target.tag().to_owned(),
                credential: credential.map(|credential| self.fingerprint(credential)),
            };
            self.resolutions().digests.invalidate(&key).await;
        }
    }

    /// Asks the mirrors of `host` and then itself, until one succeeds.
    async fn first<'a, T>(&self, host: &Host, ask: impl Fn(Endpoint) -> Asking<'a, T>) -> Result<T, ResolveError> {
        for mirror in self.registries().mirrors(host) {
            let endpoint = self.endpoint(mirror, self.registries().plain_http(mirror))?;
            match ask(endpoint).await {
                Ok(found) => return Ok(found),
                Err(error) => tracing::debug!(%mirror, %host, %error, "the mirror doesn't have it"),
            }
        }
        ask(self.endpoint(host, self.registries().plain_http(host))?).await
    }

    /// Reads a base by its digest.
    async fn fetch(
        &self,
        endpoint: &Endpoint,
        reference: BaseRef,
        digest: &str,
        platforms: &[Platform],
        credential: Option<&Credential>,
    ) -> Result<Base, ResolveError> {
        let access = Access { repository: reference.repository(), right: Right::Pull };
        let image = reference.to_string();
        let read = |raw| Manifest::read(raw).map_err(|cause| endpoint.invalid(&image, cause));
        let top = self.manifest(endpoint, access, digest, credential).await?;
        let (config, available) = match read(&top)? {
            Manifest::Image { config } => {
                let config = self.config(endpoint, access, &config, credential).await?;
                let available = vec![config.platform()];
                supports(&image, &available, platforms)?;
                (config, available)
            }
            Manifest::Index(images) => {
                let available: Vec<Platform> = images.iter().map(|(platform, _)| platform.clone()).collect();
                let chosen = supports(&image, &available, platforms)?;
                let part = self.manifest(endpoint, access, &images[chosen].1, credential).await?;
                let Manifest::Image { config } = read(&part)? else {
                    return Err(endpoint.invalid(&image, "its index names an index as an image").into());
                };
                (self.config(endpoint, access, &config, credential).await?, available)
            }
        };
        Ok(Base { digest: top.digest, media_type: top.media_type, reference, config, platforms: available })
    }

    async fn config(
        &self,
        endpoint: &Endpoint,
        access: Access<'_>,
        digest: &str,
        credential: Option<&Credential>,
    ) -> Result<BaseConfig, RegistryError> {
        let url = endpoint.url(&format!("{}/blobs/{digest}", access.repository));
        let what = format!("the configuration {}@{digest}", access.repository);
        let response = self.send(endpoint, Some(access), credential, || endpoint.client.get(&url)).await?;
        if response.status() != StatusCode::OK {
            return Err(endpoint.refusal(&what, response).await);
        }
        let bytes = endpoint.read(response, &what, CONFIG).await?;
        if digest_of(&bytes) != digest {
            return Err(endpoint.invalid(&what, "its content has another digest"));
        }
        BaseConfig::read(&bytes).map_err(|cause| endpoint.invalid(&what, cause))
    }
}

/// Whether an image is made for all that is wanted; and which of its platforms the first of these is.
fn supports(image: &str, available: &[Platform], wanted: &[Platform]) -> Result<usize, ResolveError> {
    let mut chosen = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        // The same platform by its full name comes before one that is merely compatible.
        let exact = available.iter().position(|platform| platform == wanted);
        match exact.or_else(|| available.iter().position(|platform| platform.satisfies(wanted))) {
            Some(index) => chosen.push(index),
            None => {
                return Err(ResolveError::UnsupportedPlatform {
                    image: image.to_owned(),
                    wanted: wanted.clone(),
                    available: available.to_vec(),
                });
            }
        }
    }
    Ok(chosen.first().copied().unwrap_or_default())
}

fn unshared(error: Arc<ResolveError>) -> ResolveError {
    Arc::unwrap_or_clone(error)
}
