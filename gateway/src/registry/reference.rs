//! References to base images, read by the OCI grammar and by nothing wider.

use std::fmt;

use kiln_auth::grammar::{is_repository, is_tag};

use super::host::{DOCKER_HUB, Host, InvalidHost};

/// The longest reference, in bytes: 255 of name, 128 of tag, 71 of digest and what joins them.
const LONGEST: usize = 512;

/// A base image as a caller named it: host, repository, and a tag, a digest or both.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BaseRef {
    host: Host,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// The text is no reference.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidReference {
    /// Nothing there.
    #[error("the image reference is empty")]
    Empty,
    /// More than any registry takes.
    #[error("the image reference is longer than {LONGEST} characters")]
    TooLong,
    /// Blanks, control characters, anything outside ASCII.
    #[error("the image reference contains {0:?}; it may have letters, digits and . _ - / : @ only")]
    Character(char),
    /// Repositories are in lower case.
    #[error("the image reference has capital letters in its repository; repositories are in lower case")]
    UpperCase,
    /// The part before the first `/`.
    #[error(transparent)]
    Host(#[from] InvalidHost),
    /// Not a SHA-256 digest.
    #[error("the image reference's digest is not sha256: and 64 digits of 0-9 a-f")]
    Digest,
    /// All else.
    #[error(
        "the image reference is not [host[:port]/]repository[:tag][@digest] \
         with a tag of at most 128 characters of A-Z a-z 0-9 . _ -"
    )]
    Grammar,
}

impl BaseRef {
    /// Reads a reference. Without a host it is Docker Hub's, without tag and digest it is `latest`.
    ///
    /// # Errors
    /// See [`InvalidReference`].
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Empty);
        }
        if text.len() > LONGEST {
            return Err(InvalidReference::TooLong);
        }
        // Bad grammar, too; a caller sees sooner what is wrong by the character.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@[]".contains(c);
        if let Some(c) = text.chars().find(|&c| !allowed(c)) {
            return Err(InvalidReference::Character(c));
        }
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        if digest.is_some_and(|digest| !is_sha256(digest)) {
            return Err(InvalidReference::Digest);
        }
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (DOCKER_HUB, name),
        };
        // Hosts of references are a part of what hosts can be.
        if host.contains(['_', '[']) || !is_repository(path) || !tag.is_none_or(is_tag) {
            return Err(if has_capitals(text) { InvalidReference::UpperCase } else { InvalidReference::Grammar });
        }
        let host = Host::parse(host)?;
        let repository =
            if host.is_docker_hub() && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let tag = tag.or(digest.is_none().then_some("latest")).map(str::to_owned);
        Ok(Self { host, repository, tag, digest: digest.map(str::to_owned) })
    }

    /// The registry.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The repository, `library/…` included for Docker Hub's own images.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// `host/repository`, as patterns over bases have it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// How BuildKit's source policy names this image.
    #[must_use]
    pub fn policy_identifier(&self) -> String {
        format!("docker-image://{self}")
    }

    /// What a manifest is asked for by: the digest, which says more, else the tag.
    pub(super) fn reference(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The same image, pinned.
    pub(super) fn pinned(&self, digest: &str) -> Self {
        Self {
            host: self.host.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest.to_owned()),
        }
    }
}

/// `host/repository[:tag][@digest]`, complete: what an engine makes of it doesn't depend on its defaults.
impl fmt::Display for BaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether this is `sha256:` and 64 lower-case hexadecimal digits.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// Whether the repository, so what is neither host nor tag, has capital letters.
fn has_capitals(text: &str) -> bool {
    let name = text.split('@').next().unwrap_or(text);
    let path = name.split_once('/').filter(|(host, _)| host.contains(['.', ':'])).map_or(name, |(_, path)| path);
    path.split(':').next().is_some_and(|path| path.bytes().any(|b| b.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_completed() {
        let pin = format!("sha256:{}", "a".repeat(64));
        for (text, whole) in [
            ("python", "docker.io/library/python:latest".to_owned()),
            ("apache/runtime:3.13", "docker.io/apache/runtime:3.13".to_owned()),
            ("index.docker.io/python", "docker.io/library/python:latest".to_owned()),
            ("registry-1.docker.io/python", "docker.io/library/python:latest".to_owned()),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest".to_owned()),
            (&format!("ghcr.io/a/b@{pin}"), format!("ghcr.io/a/b@{pin}")),
            (&format!("ghcr.io/a/b:t@{pin}"), format!("ghcr.io/a/b:t@{pin}")),
        ] {
            assert_eq!(BaseRef::parse(text).unwrap().to_string(), whole);
        }
        assert_eq!(
            BaseRef::parse("python").unwrap().policy_identifier(),
            "docker-image://docker.io/library/python:latest"
        );
    }

    #[test]
    fn what_is_outside_the_grammar_is_refused_with_its_reason() {
        use InvalidReference as I;
        let tag = format!("python:{}", "t".repeat(129));
        let sha512 = format!("python@sha512:{}", "a".repeat(128));
        let upper = format!("python@sha256:{}", "A".repeat(64));
        for (text, reason) in [
            ("", I::Empty),
            ("python\nRUN id", I::Character('\n')),
            ("python\r", I::Character('\r')),
            ("python\0", I::Character('\0')),
            ("python slim", I::Character(' ')),
            ("python\u{2028}", I::Character('\u{2028}')),
            ("pythоn", I::Character('о')),
            ("python;id", I::Character(';')),
            ("python,push=true", I::Character(',')),
            ("$(id)", I::Character('$')),
            ("Python", I::UpperCase),
            ("ghcr.io/A/b", I::UpperCase),
            (&"a".repeat(513), I::TooLong),
            (&tag, I::Grammar),
            ("python:", I::Grammar),
            ("python:-t", I::Grammar),
            ("-python", I::Grammar),
            ("a//b", I::Grammar),
            ("a/../b", I::Grammar),
            ("python@sha256:00", I::Digest),
            (&sha512, I::Digest),
            (&upper, I::Digest),
        ] {
            assert_eq!(BaseRef::parse(text), Err(reason), "{text:?}");
        }
        assert!(BaseRef::parse("host:99999/a").is_err() && BaseRef::parse("127.1:5000/a").is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_reads_back_as_itself_and_holds_no_blank(text in "\\PC{0,60}|[a-z0-9./:@_-]{0,60}") {
            if let Ok(parsed) = BaseRef::parse(&text) {
                let whole = parsed.to_string();
                prop_assert!(whole.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert_eq!(BaseRef::parse(&whole).unwrap(), parsed);
            }
        }
    }
}
