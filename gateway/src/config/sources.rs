//! `[sources]`: what the Dockerfiles of callers may fetch beside bases, and what may read them.

use serde::Deserialize;

use crate::registry::{BaseRef, Host};

/// Beyond bases nothing is fetched but what stands here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sources {
    /// Frontends that a `# syntax=` line may name, each by digest.
    pub frontends: Vec<Frontend>,
    /// Hosts from which `ADD` may fetch.
    pub add_hosts: Vec<AddHost>,
}

/// A frontend's image, by digest: what another one says of it can't change what it does.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Frontend(BaseRef);

/// `[http[s]://]host[:port]`; without a scheme it is https.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct AddHost {
    plain_http: bool,
    host: Host,
}

/// The text can't be such a source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidSource {
    /// A frontend without a digest, or no image's name.
    #[error("{0:?} is no frontend: it must be an image by digest, host/repository@sha256:…")]
    Frontend(String),
    /// Not a host.
    #[error(
        "{0:?} is no host of ADD: it must be host or host:port, perhaps with http:// before it, and has no path and no *"
    )]
    AddHost(String),
}

impl Sources {
    /// The frontend that `named` means, where it is permitted: the same repository and digest.
    #[must_use]
    pub fn frontend(&self, named: &str) -> Option<&BaseRef> {
        let named = BaseRef::parse(named).ok()?;
        let same = |image: &BaseRef| image.name() == named.name() && image.digest() == named.digest();
        self.frontends.iter().map(|Frontend(image)| image).find(|image| same(image))
    }
}

impl AddHost {
    /// The pattern over what can be fetched from there, as the engine's policy has it. `*` stands for
    /// any characters, so the slash before it ends the host.
    #[must_use]
    pub fn pattern(&self) -> String {
        format!("{}://{}/*", if self.plain_http { "http" } else { "https" }, self.host)
    }
}

impl TryFrom<String> for Frontend {
    type Error = InvalidSource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let image = BaseRef::parse(&text).ok().filter(|image| image.digest().is_some());
        image.map(Self).ok_or(InvalidSource::Frontend(text))
    }
}

impl TryFrom<String> for AddHost {
    type Error = InvalidSource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (plain_http, name) = match text.split_once("://") {
            Some(("http", name)) => (true, name),
            Some(("https", name)) => (false, name),
            Some(_) => return Err(InvalidSource::AddHost(text)),
            None => (false, text.as_str()),
        };
        // A registry's other names are none of a host that only gives files.
        match Host::parse(name) {
            Ok(host) if host.as_str() == name.to_ascii_lowercase() => Ok(Self { plain_http, host }),
            _ => Err(InvalidSource::AddHost(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_the_one_of_its_digest() {
        let digest = |n: u8| format!("sha256:{}", n.to_string().repeat(64));
        let listed = format!("frontends = ['docker.io/docker/dockerfile:1@{}']", digest(1));
        let sources: Sources = toml::from_str(&listed).unwrap();
        for (named, permitted) in [
            (format!("docker/dockerfile@{}", digest(1)), true),
            (format!("docker.io/docker/dockerfile:1.7@{}", digest(1)), true),
            (format!("docker/dockerfile@{}", digest(2)), false),
            (format!("ghcr.io/docker/dockerfile@{}", digest(1)), false),
            ("docker/dockerfile:1".to_owned(), false),
            ("not an image".to_owned(), false),
        ] {
            assert_eq!(sources.frontend(&named).is_some(), permitted, "{named}");
        }
        for text in ["docker/dockerfile:1", "x y"] {
            assert!(toml::from_str::<Sources>(&format!("frontends = ['{text}']")).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_of_add_are_whole_names() {
        let pattern = |text: &str| AddHost::try_from(text.to_owned()).map(|host| host.pattern());
        assert_eq!(pattern("Files.Example:8443").unwrap(), "https://files.example:8443/*");
        assert_eq!(pattern("https://files.example").unwrap(), "https://files.example/*");
        assert_eq!(pattern("http://files.example").unwrap(), "http://files.example/*");
        for text in ["", "*", "*.example", "files.example/", "files.example/x", "user@files.example", "git://x", "a b"]
        {
            assert!(pattern(text).is_err(), "{text:?}");
        }
    }
}
