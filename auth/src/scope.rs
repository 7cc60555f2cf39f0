//! The scope check: user `u` may push to the repositories `u` and `u/…`, and to nothing else.

use std::{fmt, sync::Arc};

use crate::grammar::{is_component, is_repository, is_tag};

/// The longest user name, in bytes: OpenServerless allows 61, an OCI path component has no limit
/// of its own, and names end up in labels of 63.
const LONGEST_USER_NAME: usize = 63;

/// The tag of a target that names none, as every registry client has it.
const DEFAULT_TAG: &str = "latest";

/// A caller's name: one lower-case OCI path component, so that it can be a repository.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UserName(Arc<str>);

/// The name can't be a repository of a registry.
#[derive(Debug, thiserror::Error)]
#[error("a user name is 1 to 63 characters of a-z, 0-9 and single separators (. _ -) between them")]
pub struct InvalidUserName(());

/// A repository and a tag as a caller named them: grammatical, but not yet proved to be theirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    repository: String,
    tag: String,
}

/// The text is no `repository[:tag]` of the OCI distribution grammar.
#[derive(Debug, thiserror::Error)]
#[error("a target is repository[:tag] in lower case, the tag at most 128 characters of A-Z a-z 0-9 . _ -")]
pub struct InvalidTarget(());

/// A target that [`Scope::admit`] found to lie within its owner's repositories.
///
/// There is no other way to make one, so what takes a `ScopedTarget` needs no check of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScopedTarget {
    owner: UserName,
    target: Target,
}

/// The repository belongs to somebody else.
#[derive(Debug, thiserror::Error)]
#[error("{repository} is not {owner} or below {owner}/")]
pub struct OutOfScope {
    owner: UserName,
    repository: String,
}

/// What one user may name.
#[derive(Clone, Debug)]
pub struct Scope {
    owner: UserName,
    extent: Extent,
}

#[derive(Clone, Copy, Debug)]
enum Extent {
    Own,
    Everything,
}

// === impl UserName ===

impl UserName {
    /// Takes a name that already is in its canonical, lower-case form.
    ///
    /// # Errors
    /// When the name is no single path component of the OCI grammar or longer than 63 bytes.
    pub fn parse(name: &str) -> Result<Self, InvalidUserName> {
        let fits = !name.is_empty() && name.len() <= LONGEST_USER_NAME;
        if fits && is_component(name) { Ok(Self(name.into())) } else { Err(InvalidUserName(())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Target ===

impl Target {
    /// Reads `repository[:tag]`; without a tag it is `latest`.
    ///
    /// # Errors
    /// When the text is anything else: a host, a digest, upper case, control characters, blanks.
    pub fn parse(text: &str) -> Result<Self, InvalidTarget> {
        let (repository, tag) = text.split_once(':').unwrap_or((text, DEFAULT_TAG));
        if !is_repository(repository) || !is_tag(tag) {
            return Err(InvalidTarget(()));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }

    /// The repository, without host and tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

// === impl Scope ===

impl Scope {
    /// The scope of `owner`: the repository of that name and what lies below it.
    #[must_use]
    pub fn of(owner: UserName) -> Self {
        Self { owner, extent: Extent::Own }
    }

    /// A scope without bounds, for an installation whose operator has switched the check off.
    #[must_use]
    pub fn unbounded(owner: UserName) -> Self {
        Self { owner, extent: Extent::Everything }
    }

    /// Whose scope it is; what it admits is admitted for them.
    #[must_use]
    pub fn owner(&self) -> &UserName {
        &self.owner
    }

    /// Whether the operator has switched the check off.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        matches!(self.extent, Extent::Everything)
    }

    /// Proves that `target` lies within this scope.
    ///
    /// # Errors
    /// When its repository is neither the owner's name nor below it (`foo` is not `foo-bar`).
    pub fn admit(&self, target: Target) -> Result<ScopedTarget, OutOfScope> {
        let own = match target.repository.strip_prefix(self.owner.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        if own || self.is_unbounded() {
            Ok(ScopedTarget { owner: self.owner.clone(), target })
        } else {
            Err(OutOfScope { owner: self.owner.clone(), repository: target.repository })
        }
    }
}

// === impl ScopedTarget ===

impl ScopedTarget {
    /// Whose target it is.
    #[must_use]
    pub fn owner(&self) -> &UserName {
        &self.owner
    }

    /// The repository, without host and tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.target.repository()
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.target.tag()
    }

    /// Another tag of the same repository; `None` if it can't be one.
    #[must_use]
    pub fn beside(&self, tag: &str) -> Option<Self> {
        let target = Target { repository: self.target.repository.clone(), tag: tag.to_owned() };
        is_tag(tag).then(|| Self { owner: self.owner.clone(), target })
    }
}

impl fmt::Display for ScopedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(owner: &str) -> Scope {
        Scope::of(UserName::parse(owner).unwrap())
    }

    #[test]
    fn targets_outside_the_grammar_are_refused() {
        for text in [
            "",
            ":",
            ":t",
            "devel:",
            "devel:a:b",
            "devel:t;id",
            "devel:t,push=false",
            "devel:t\n",
            "devel\n:t",
            "Devel:t",
            "devel:t t",
            "devel/:t",
            "/devel:t",
            "devel//x:t",
            "devel/../x:t",
            "devel@sha256:00",
            "dével:t",
            "devel:\u{2028}",
            "devel:-t",
            "devel:.t",
            "devel:т",
            "ｄevel:t",
            "devel\0:t",
            "de___vel:t",
            "-devel:t",
            "host:5000/devel:t",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
        assert!(Target::parse(&format!("devel:{}", "a".repeat(129))).is_err());
        assert!(Target::parse(&format!("devel:{}", "a".repeat(128))).is_ok());
    }

    #[test]
    fn a_target_without_a_tag_is_latest() {
        assert_eq!(Target::parse("devel").unwrap().to_string(), "devel:latest");
    }

    #[test]
    fn only_the_own_repository_and_below_it_is_admitted() {
        for (owner, target, admitted) in [
            ("foo", "foo:t", true),
            ("foo", "foo/bar:t", true),
            ("foo", "foo-bar:t", false),
            ("foo", "foobar/x:t", false),
            ("foo-bar", "foo:t", false),
            ("foo", "bar/foo:t", false),
        ] {
            let got = scope(owner).admit(Target::parse(target).unwrap()).is_ok();
            assert_eq!(got, admitted, "{owner} {target}");
        }
    }

    proptest! {
        #[test]
        fn nothing_foreign_is_ever_admitted(owner in "[a-z0-9]{1,8}(-[a-z0-9]{1,4})?", text in "\\PC{0,40}") {
            if let Ok(target) = Target::parse(&text) && let Ok(scoped) = scope(&owner).admit(target) {
                let below = format!("{owner}/");
                prop_assert!(scoped.repository() == owner || scoped.repository().starts_with(&below));
            }
        }
    }
}
