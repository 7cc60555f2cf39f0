//! Word of builds to their owners: which receivers there may be, what messages are signed with, and how
//! they are brought there.
//!
//! What is to be sent stands in the ledger, written by the transaction that moves the build; the [`Courier`]
//! brings it until the receiver has taken it, or has been tried often enough. A message may come twice,
//! under the same id.

mod courier;
mod message;
mod secret;
mod way;

use std::{io, path::PathBuf, sync::Arc};

use kiln_auth::UserName;
use kiln_backends::BuildId;
use reqwest::Url;

use crate::{
    config,
    ledger::{Seal, State, Style, Webhook},
};

pub use courier::Courier;
pub(crate) use courier::receiver;
pub(crate) use message::Message;
pub use secret::InvalidSecret;
use secret::Secret;
use way::Way;

/// The longest URL, bytes.
const URL_AT_MOST: usize = 2048;

/// Which receivers there may be, and the way to them.
#[derive(Clone, Debug)]
pub struct Webhooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: config::Webhooks,
    way: Way,
}

/// Where somebody wants to be told of a build, looked at and permitted.
pub struct Wanted {
    style: Style,
    url: Url,
    secret: Option<Secret>,
    image: Option<String>,
    events: Vec<State>,
}

/// The webhook can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Not a URL, or one that isn't for this.
    #[error("it must be an absolute URL of at most {URL_AT_MOST} bytes, without user, password and fragment")]
    Url,
    /// Without TLS.
    #[error("it must begin with https://; the operator permits http:// with webhooks.plain_http")]
    Scheme,
    /// An address of the inside.
    #[error("its address isn't public; the operator permits networks with webhooks.allow_networks")]
    Internal,
    /// Nothing to sign with.
    #[error("a secret is needed, since the operator has set none with webhooks.secret_file")]
    NoSecret,
    /// Not a secret.
    #[error("secret: {0}")]
    Secret(#[from] InvalidSecret),
}

/// The settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A key can't be read, or is none.
    #[error("the key in {path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidSecret,
    },
    /// The proxy, or a certificate.
    #[error("the proxy or the CA bundle can't be used: {0}")]
    Way(#[from] reqwest::Error),
}

impl Webhooks {
    /// By these settings, trusting these authorities (PEM) beside the system's.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(settings: config::Webhooks, extra_ca: Option<&[u8]>) -> Result<Self, SetupError> {
        for path in settings.secret_file.iter().chain(settings.user_secret_files.values()) {
            Secret::read(path).map_err(|source| SetupError::Key { path: path.clone(), source })?;
        }
        let way = Way::new(&settings, extra_ca)?;
        Ok(Self(Arc::new(Inner { settings, way })))
    }

    /// Looks at what somebody asks for. A name's addresses are looked at when it is sent to.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn look(&self, owner: &UserName, style: Style, url: &str, secret: Option<&str>) -> Result<Wanted, Unfit> {
        if url.len() > URL_AT_MOST {
            return Err(Unfit::Url);
        }
        let url = Url::parse(url).map_err(|_| Unfit::Url)?;
        match url.scheme() {
            "https" => {}
            "http" if self.0.settings.plain_http => {}
            "http" => return Err(Unfit::Scheme),
            _ => return Err(Unfit::Url),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() || !url.has_host() {
            return Err(Unfit::Url);
        }
        if !self.0.way.admits(&url) {
            return Err(Unfit::Internal);
        }
        let secret = secret.map(Secret::parse).transpose()?;
        if secret.is_none() && self.key_file(owner).is_none() {
            return Err(Unfit::NoSecret);
        }
        let events = vec![State::Succeeded, State::Failed, State::Cancelled];
        Ok(Wanted { style, url, secret, image: None, events })
    }

    fn key_file(&self, owner: &UserName) -> Option<&PathBuf> {
        let settings = &self.0.settings;
        settings.user_secret_files.get(owner.as_str()).or(settings.secret_file.as_ref())
    }

    /// What a message to this owner is signed with: what they brought, or the configuration's keys.
    fn keys(&self, seal: &Seal, build: BuildId, owner: &UserName, sealed: Option<&[u8]>) -> io::Result<Vec<Secret>> {
        if let Some(sealed) = sealed {
            let plain = seal.open_sealed(&context(build), sealed).map_err(io::Error::other)?;
            let text = String::from_utf8(plain).map_err(io::Error::other)?;
            return Ok(vec![Secret::parse(&text).map_err(io::Error::other)?]);
        }
        let path = self.key_file(owner).ok_or_else(|| io::Error::other("no key is configured any more"))?;
        Secret::read(path).map_err(io::Error::other)
    }
}

impl Wanted {
    /// Tells of these states, in place of the terminal ones.
    #[must_use]
    pub fn events(self, events: Vec<State>) -> Self {
        Self { events, ..self }
    }

    /// Repeats the image's name as its caller wrote it.
    #[must_use]
    pub fn image(self, image: String) -> Self {
        Self { image: Some(image), ..self }
    }

    /// What two requests for the same must have in common.
    pub(crate) fn fingerprint(&self) -> String {
        let events: Vec<&str> = self.events.iter().map(|state| state.as_str()).collect();
        format!("{} {}", events.join(","), self.url)
    }

    /// As the ledger keeps it: the secret opens for this build alone.
    pub(crate) fn sealed(self, seal: &Seal, build: BuildId) -> io::Result<Webhook> {
        let secret = self.secret.map(|secret| seal.seal(&context(build), secret.text().as_bytes())).transpose()?;
        Ok(Webhook { style: self.style, url: self.url.into(), secret, image: self.image, events: self.events })
    }
}

/// Paths of webhooks are as good as passwords at some receivers.
impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("style", &self.style).field("events", &self.events).finish_non_exhaustive()
    }
}

fn context(build: BuildId) -> Vec<u8> {
    [b"webhook ", &build.0.as_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_named_by_https_urls_of_the_outside() {
        let settings = "allow_networks = ['10.1.0.0/16', 'fd00::/8']";
        let webhooks = Webhooks::new(toml::from_str(settings).unwrap(), None).unwrap();
        let owner = UserName::parse("devel").unwrap();
        let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
        let look = |url: &str| webhooks.look(&owner, Style::CloudEvents, url, Some(secret)).map(|_| ());
        for url in ["https://hooks.example/x?y", "https://10.1.2.3:8443/", "https://[fd00::1]/", "https://8.8.8.8"] {
            assert!(look(url).is_ok(), "{url}");
        }
        for url in [
            "https://10.2.0.1/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0/",
            "https://localhost/",
            "https://app.localhost./",
            "https://169.254.169.254/",
            "https://100.64.0.1/",
            "https://224.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:192.168.0.1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[64:ff9b:1::a00:1]/",
            "https://[fe80::1]/",
        ] {
            assert!(matches!(look(url), Err(Unfit::Internal)), "{url}");
        }
        assert!(matches!(look("http://hooks.example/"), Err(Unfit::Scheme)));
        for url in ["", "hooks.example", "ftp://hooks.example", "https://u:p@hooks.example", "https://h.example/#f"] {
            assert!(matches!(look(url), Err(Unfit::Url)), "{url}");
        }
        let long = format!("https://hooks.example/{}", "x".repeat(URL_AT_MOST));
        assert!(matches!(look(&long), Err(Unfit::Url)));
        let none = webhooks.look(&owner, Style::CloudEvents, "https://hooks.example", None);
        assert!(matches!(none, Err(Unfit::NoSecret)));
    }
}
