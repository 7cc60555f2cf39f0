//! What Kiln asks of registries: bases, tags, and whether they answer.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    hmac,
    rand::{self, SecureRandom},
};
use http::{StatusCode, header};
use kiln_auth::ScopedTarget;
use reqwest::Response;

use super::{
    address::is_public,
    auth::{self, Access, Authorizer, Bearer, Challenge, Right, Token},
    credentials::Credential,
    destination::{ProcessRegistry, Push},
    endpoint::Endpoint,
    error::RegistryError,
    host::Host,
    manifest::{ACCEPT, Raw, digest_of},
    manner::Manner,
    reference::is_sha256,
    resolve::Resolutions,
    table::Registries,
    transport::{Network, SetupError, Transport},
};

/// The most that a manifest may have, in bytes: what registries take by the specification.
pub(super) const MANIFEST: usize = 4 * 1024 * 1024;

/// The header under which registries give a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A client of registries; clones share connections and caches.
#[derive(Clone)]
pub struct RegistryClient(Arc<Inner>);

struct Inner {
    transport: Transport,
    authorizer: Authorizer,
    resolutions: Resolutions,
    fingerprints: hmac::Key,
}

/// How a registry wants callers to prove themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authentication {
    /// Not at all.
    None,
    /// By name and password.
    Basic,
    /// By tokens of a token service.
    Token,
}

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryClient")
    }
}

impl RegistryClient {
    /// Makes a client that obeys `registries`. What `process` names as its own registry is trusted.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(process: &ProcessRegistry, registries: Registries, network: &Network) -> Result<Self, SetupError> {
        let transport = Transport::new(process, registries, network)?;
        let mut key = [0; 32];
        rand::SystemRandom::new().fill(&mut key).map_err(|_| SetupError::Random)?;
        let fingerprints = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let authorizer = Authorizer::new(fingerprints.clone());
        Ok(Self(Arc::new(Inner { transport, authorizer, resolutions: Resolutions::new(), fingerprints })))
    }

    /// The table that this client obeys: the configured one, with the installation's own registry added.
    #[must_use]
    pub fn registries(&self) -> &Registries {
        self.0.transport.registries()
    }

    /// Whether a build may push to `host` at all: a registry that only a caller named must have public
    /// addresses. The engine resolves the name anew, so this spares an attempt, and what an engine may
    /// reach is the business of its network.
    ///
    /// # Errors
    /// `Refused`. A name that can't be resolved is no error here: it may be known to a proxy or the engine.
    pub async fn admit(&self, host: &Host) -> Result<(), RegistryError> {
        if self.endpoint(host, false)?.trusted {
            return Ok(());
        }
        let found = tokio::net::lookup_host((host.name(), 0)).await;
        let inside = found.is_ok_and(|mut found| found.any(|at| !is_public(at.ip())));
        if inside { Err(RegistryError::Refused { host: host.clone() }) } else { Ok(()) }
    }

    /// How a registry that a request named is spoken to: as the table says, and where it says nothing and
    /// `registry.insecure` is set, by TLS with any certificate; by plain HTTP only if what answers isn't TLS,
    /// plain HTTP is answered, and no `credential` would be seen on the way.
    pub async fn manner(&self, host: &Host, credential: Option<&Credential>) -> Manner {
        let transport = &self.0.transport;
        let table = transport.registries();
        if !transport.may_be_insecure(host) {
            return Manner { plain_http: table.plain_http(host), skip_verify: table.skip_verify(host) };
        }
        let plain = Manner { plain_http: true, skip_verify: true };
        let plain_http = (credential.is_none() || host.is_loopback())
            && self.speaks_no_tls(host).await
            && self.challenge(host, plain).await.is_ok();
        Manner { plain_http, ..plain }
    }

    /// Whether `host` answers a TLS handshake with something else. A connection that breaks or takes too long
    /// says nothing: whoever sits in between could make it do so.
    async fn speaks_no_tls(&self, host: &Host) -> bool {
        let by_tls = Manner { plain_http: false, skip_verify: true };
        let Ok(endpoint) = self.0.transport.endpoint(host, by_tls) else { return false };
        let Err(error) = endpoint.client.get(endpoint.url("")).send().await else { return false };
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            if is_no_tls(cause) {
                return true;
            }
            source = cause.source();
        }
        false
    }

    /// Puts the target's tag on the manifest `digest`, which the repository has: the very same bytes
    /// under the tag, read back and checked.
    ///
    /// # Errors
    /// `NotFound` when the manifest isn't there; else see [`RegistryError`].
    pub async fn put_tag(&self, push: &Push, target: &ScopedTarget, digest: &str) -> Result<(), RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let (access, credential) =
            (Access { repository: target.repository(), right: Right::Push }, push.credential.as_ref());
        let Raw { bytes, media_type, .. } = self.manifest(&endpoint, access, digest, credential).await?;
        let url = endpoint.url(&format!("{}/manifests/{}", target.repository(), target.tag()));
        let put = || endpoint.client.put(&url).header(header::CONTENT_TYPE, &media_type).body(bytes.clone());
        let response = self.send(&endpoint, Some(access), credential, put).await?;
        let what = format!("the tag {target}");
        if !response.status().is_success() {
            return Err(endpoint.refusal(&what, response).await);
        }
        self.tag_moved(push, target).await;
        match content_digest(&response) {
            Some(stored) if stored == digest => Ok(()),
            Some(stored) => Err(endpoint.invalid(&what, format!("it was stored as {stored} instead of {digest}"))),
            None => match self.head(push, target, None).await? {
                Some(stored) if stored == digest => Ok(()),
                _ => Err(endpoint.invalid(&what, "it isn't what was put there")),
            },
        }
    }

    /// Which manifest the target's tag names, or, with `digest`, whether its repository has that one;
    /// `None` is neither repository nor manifest.
    ///
    /// # Errors
    /// See [`RegistryError`]; `NotFound` isn't among them.
    pub async fn head(
        &self,
        push: &Push,
        target: &ScopedTarget,
        digest: Option<&str>,
    ) -> Result<Option<String>, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let access = Access { repository: target.repository(), right: Right::Pull };
        let reference = digest.unwrap_or(target.tag());
        match self.digest(&endpoint, access, reference, push.credential.as_ref()).await {
            Ok(digest) => Ok(Some(digest)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks a registry whether it is there and takes the credential.
    ///
    /// # Errors
    /// `Forbidden` when it doesn't take it; else see [`RegistryError`].
    pub async fn ping(&self, push: &Push) -> Result<Authentication, RegistryError> {
        let endpoint = self.push_endpoint(push)?;
        let challenge = self.0.authorizer.challenge(&endpoint).await?;
        let get = || endpoint.client.get(endpoint.url(""));
        let response = self.send(&endpoint, None, push.credential.as_ref(), get).await?;
        match challenge {
            None => Ok(Authentication::None),
            _ if !response.status().is_success() => Err(endpoint.refusal("/v2/", response).await),
            Some(Challenge::Basic) => Ok(Authentication::Basic),
            Some(Challenge::Bearer(_)) => Ok(Authentication::Token),
        }
    }

    /// How `host` wants to be asked.
    pub(super) async fn challenge(&self, host: &Host, manner: Manner) -> Result<Option<Challenge>, RegistryError> {
        self.0.authorizer.challenge(&self.0.transport.endpoint(host, manner)?).await
    }

    /// A token of the host's token service.
    pub(super) async fn token(
        &self,
        host: &Host,
        manner: Manner,
        bearer: &Bearer,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<Token, RegistryError> {
        let endpoint = self.0.transport.endpoint(host, manner)?;
        auth::fetch(&self.0.transport, &endpoint, bearer, scopes, credential).await
    }

    pub(super) fn endpoint(&self, host: &Host, plain_http: bool) -> Result<Endpoint, RegistryError> {
        self.0.transport.endpoint(host, Manner { plain_http, skip_verify: false })
    }

    pub(super) fn push_endpoint(&self, push: &Push) -> Result<Endpoint, RegistryError> {
        self.0.transport.endpoint(&push.host, push.manner)
    }

    pub(super) fn resolutions(&self) -> &Resolutions {
        &self.0.resolutions
    }

    pub(super) fn fingerprint(&self, credential: &Credential) -> [u8; 32] {
        credential.fingerprint(&self.0.fingerprints)
    }

    /// The digest of a manifest, by HEAD, which public registries don't count against their limits;
    /// by GET where the registry leaves the digest out.
    pub(super) async fn digest(
        &self,
        endpoint: &Endpoint,
        access: Access<'_>,
        reference: &str,
        credential: Option<&Credential>,
    ) -> Result<String, RegistryError> {
        let url = endpoint.url(&format!("{}/manifests/{reference}", access.repository));
        let head = || endpoint.client.head(&url).header(header::ACCEPT, ACCEPT);
        let response = self.send(endpoint, Some(access), credential, head).await?;
        match (response.status(), content_digest(&response)) {
            (StatusCode::OK, Some(digest)) if !is_sha256(reference) || digest == reference => Ok(digest),
            (StatusCode::OK | StatusCode::METHOD_NOT_ALLOWED, _) => {
                Ok(self.manifest(endpoint, access, reference, credential).await?.digest)
            }
            _ => Err(endpoint.refusal(&whole(access, reference), response).await),
        }
    }

    /// A manifest by tag or digest, its digest verified.
    pub(super) async fn manifest(
        &self,
        endpoint: &Endpoint,
        access: Access<'_>,
        reference: &str,
        credential: Option<&Credential>,
    ) -> Result<Raw, RegistryError> {
        let url = endpoint.url(&format!("{}/manifests/{reference}", access.repository));
        let what = whole(access, reference);
        let get = || endpoint.client.get(&url).header(header::ACCEPT, ACCEPT);
        let response = self.send(endpoint, Some(access), credential, get).await?;
        if response.status() != StatusCode::OK {
            return Err(endpoint.refusal(&what, response).await);
        }
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_owned();
        let promised = content_digest(&response);
        let bytes = endpoint.read(response, &what, MANIFEST).await?;
        let digest = digest_of(&bytes);
        let promised = if is_sha256(reference) { Some(reference.to_owned()) } else { promised };
        match promised {
            Some(promised) if promised != digest => {
                Err(endpoint.invalid(&what, format!("its content has the digest {digest} instead of {promised}")))
            }
            _ => Ok(Raw { bytes, media_type, digest }),
        }
    }

    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        access: Option<Access<'_>>,
        credential: Option<&Credential>,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.0.authorizer.send(&self.0.transport, endpoint, access, credential, request).await
    }
}

/// Whether a handshake failed on bytes that are none of TLS. Such faults come wrapped, also more than once.
fn is_no_tls(fault: &(dyn std::error::Error + 'static)) -> bool {
    match fault.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => is_no_tls(inner),
        None => matches!(fault.downcast_ref(), Some(rustls::Error::InvalidMessage(_))),
    }
}

/// `repository:tag` or `repository@digest`, for people.
pub(super) fn whole(access: Access<'_>, reference: &str) -> String {
    let joint = if is_sha256(reference) { '@' } else { ':' };
    format!("{}{joint}{reference}", access.repository)
}

pub(super) fn content_digest(response: &Response) -> Option<String> {
    let digest = response.headers().get(CONTENT_DIGEST)?.to_str().ok()?;
    is_sha256(digest).then(|| digest.to_owned())
}
