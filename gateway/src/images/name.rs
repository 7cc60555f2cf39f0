//! A caller's word for an image, or for a repository of them, proved to be theirs.

use std::fmt;

use kiln_auth::{Identity, ScopedTarget, Target};

use super::ImagesError;
use crate::registry::is_sha256;

/// An image or a repository within the caller's scope. There is no other way to make one than [`Name::parse`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    at: ScopedTarget,
    what: What,
}

/// What a name says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// `user` or `user/path`.
    Repository,
    /// `user:tag`.
    Tag,
    /// `user@sha256:…`.
    Digest(String),
}

impl Name {
    /// Reads `repository`, `repository:tag` or `repository@sha256:…`.
    ///
    /// # Errors
    /// [`ImagesError::Missing`] where it is nothing of the kind, and where it isn't the caller's.
    pub fn parse(identity: &Identity, text: &str) -> Result<Self, ImagesError> {
        let (repository, what) = match text.split_once('@') {
            Some((_, digest)) if !is_sha256(digest) => return Err(ImagesError::Missing),
            // A tag beside a digest could say something else.
            Some((repository, _)) if repository.contains(':') => return Err(ImagesError::Missing),
            Some((repository, digest)) => (repository, What::Digest(digest.to_owned())),
            None if text.contains(':') => (text, What::Tag),
            None => (text, What::Repository),
        };
        let target = Target::parse(repository).map_err(|_| ImagesError::Missing)?;
        let at = identity.scope().admit(target).map_err(|_| ImagesError::Missing)?;
        Ok(Self { at, what })
    }

    /// Whether it is one image, or a repository of them.
    #[must_use]
    pub fn what(&self) -> &What {
        &self.what
    }

    /// The repository, with the tag where it has one.
    pub(super) fn at(&self) -> &ScopedTarget {
        &self.at
    }

    /// What the registry calls the one image.
    ///
    /// # Errors
    /// [`ImagesError::NotOne`] for a repository.
    pub(super) fn reference(&self) -> Result<&str, ImagesError> {
        match &self.what {
            What::Repository => Err(ImagesError::NotOne(self.at.repository().to_owned())),
            What::Tag => Ok(self.at.tag()),
            What::Digest(digest) => Ok(digest),
        }
    }

    pub(super) fn tag(&self) -> Option<&str> {
        matches!(self.what, What::Tag).then(|| self.at.tag())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Repository => f.write_str(self.at.repository()),
            What::Tag => self.at.fmt(f),
            What::Digest(digest) => write!(f, "{}@{digest}", self.at.repository()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_auth::UserName;
    use proptest::prelude::*;

    fn name(user: &str, text: &str) -> Option<String> {
        let identity = Identity::new(UserName::parse(user).unwrap(), "test");
        Name::parse(&identity, text).ok().map(|name| name.to_string())
    }

    #[test]
    fn names_are_the_callers_or_missing() {
        let pin = format!("sha256:{}", "a".repeat(64));
        for text in ["foo", "foo/bar", "foo:t", "foo/a/b:t", &format!("foo@{pin}")] {
            assert_eq!(name("foo", text).as_deref(), Some(text));
        }
        for text in [
            "",
            "foo-bar",
            "foo-bar:t",
            "foobar/x",
            "bar",
            "foo/",
            "foo/../bar",
            "foo//bar",
            "foo:",
            "foo:a:b",
            "foo:a/b",
            "foo@",
            "foo@sha256:0",
            "foo%2f..%2fbar:t",
            "FOO:t",
            &format!("foo:t@{pin}"),
            &format!("bar@{pin}"),
            &format!("foo@{pin}@{pin}"),
            &format!("foo@sha512:{}", "a".repeat(128)),
        ] {
            assert_eq!(name("foo", text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_admitted_is_the_callers_and_reads_back(text in "(foo|foo-x|bar)?[a-z:@/._-]{0,12}") {
            if let Some(read) = name("foo", &text) {
                prop_assert!(read == "foo" || ["foo/", "foo:", "foo@"].iter().any(|own| read.starts_with(own)));
                prop_assert_eq!(name("foo", &read), Some(read.clone()));
            }
        }
    }
}
