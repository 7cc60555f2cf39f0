//! User names are one namespace: whose users a name can be is decided before the first caller comes.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Asker, Credential, Identity, IdentityProvider, Refusal, UserName};

/// How a provider's users are named: its own names, behind a prefix if it has one.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    prefix: Option<String>,
    /// The others' prefixes, with which no name of this one may begin.
    reserved: Vec<String>,
}

/// Two providers could name the same user, or a prefix can't begin a name.
#[derive(Debug, thiserror::Error)]
pub enum InvalidNaming {
    /// Neither of the two has a prefix.
    #[error(
        "neither {0} nor {1} is set, so two providers could name the same user; set one of them, or \
         identity.shared_names = true if both know the same people"
    )]
    Unprefixed(String, String),
    /// One's prefix begins with the other's.
    #[error(
        "{0} and {1} begin alike, so two providers could name the same user; change one of them, or set \
         identity.shared_names = true if both know the same people"
    )]
    Overlap(String, String),
    /// No name can begin so.
    #[error("{0} can't begin a user name: a-z, 0-9 and single separators (. _ -) between them")]
    Prefix(String),
}

/// A user of a provider can't have a name here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misnamed(&'static str);

/// A provider whose users are named as configuration says.
pub struct Named {
    inner: Arc<dyn IdentityProvider>,
    naming: Naming,
}

// === impl Naming ===

impl Naming {
    /// Decides how each provider names its users: for each the setting that is its prefix, for people,
    /// and the prefix, if it has one. With `shared` several may name the same user.
    ///
    /// # Errors
    /// When two of them could, and that isn't meant.
    pub fn decide(providers: &[(&str, Option<&str>)], shared: bool) -> Result<Vec<Self>, InvalidNaming> {
        for (index, &(one, prefix)) in providers.iter().enumerate() {
            if prefix.is_some_and(|prefix| prefix.is_empty() || UserName::parse(&format!("{prefix}x")).is_err()) {
                return Err(InvalidNaming::Prefix(one.to_owned()));
            }
            for &(other, others) in providers.iter().skip(index + 1).filter(|_| !shared) {
                let both = || (one.to_owned(), other.to_owned());
                match (prefix, others) {
                    (None, None) => return Err(both()).map_err(|(one, other)| InvalidNaming::Unprefixed(one, other)),
                    (Some(a), Some(b)) if a.starts_with(b) || b.starts_with(a) => {
                        return Err(both()).map_err(|(one, other)| InvalidNaming::Overlap(one, other));
                    }
                    _ => {}
                }
            }
        }
        let prefixes = || providers.iter().filter_map(|(_, prefix)| prefix.map(str::to_owned));
        let naming = |&(_, prefix): &(&str, Option<&str>)| Self {
            prefix: prefix.map(str::to_owned),
            // Behind a prefix of its own no name begins with another one.
            reserved: if prefix.is_some() || shared { Vec::new() } else { prefixes().collect() },
        };
        Ok(providers.iter().map(naming).collect())
    }

    /// The name here of a user whom the provider calls `user`.
    ///
    /// # Errors
    /// When it could be another provider's user, or is too long.
    pub fn user(&self, user: &UserName) -> Result<UserName, Misnamed> {
        if self.reserved.iter().any(|prefix| user.as_str().starts_with(prefix)) {
            return Err(Misnamed("the user's name begins with another provider's prefix"));
        }
        let Some(prefix) = &self.prefix else { return Ok(user.clone()) };
        UserName::parse(&format!("{prefix}{user}"))
            .map_err(|_| Misnamed("the user's name with its prefix is too long for a repository"))
    }

    /// The identity under the name that it has here.
    fn name(&self, identity: Identity) -> Result<Identity, Refusal> {
        let user = self.user(identity.user()).map_err(|Misnamed(reason)| Refusal::Rejected(reason))?;
        Ok(if user == *identity.user() { identity } else { identity.renamed(user) })
    }
}

// === impl Named ===

impl Named {
    /// Names the users of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn IdentityProvider>, naming: Naming) -> Self {
        Self { inner, naming }
    }
}

#[async_trait]
impl IdentityProvider for Named {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn identify(&self, credential: &Credential, asker: &Asker) -> Result<Identity, Refusal> {
        self.naming.name(self.inner.identify(credential, asker).await?)
    }

    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        Some(self.inner.recall(credential).await?.and_then(|identity| self.naming.name(identity)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str) -> Identity {
        Identity::new(UserName::parse(user).unwrap(), "test")
    }

    #[test]
    fn two_providers_that_could_name_the_same_user_are_refused() {
        for (providers, shared, fault) in [
            (&[("a", None)][..], false, None),
            (&[("a", None), ("b", Some("b-"))], false, None),
            (&[("a", Some("a-")), ("b", Some("b-"))], false, None),
            (&[("a", None), ("b", None)], false, Some("neither a nor b is set")),
            (&[("a", None), ("b", None)], true, None),
            (&[("a", None), ("b", Some("b-")), ("c", None)], false, Some("neither a nor c")),
            (&[("a", Some("x-")), ("b", Some("x-"))], false, Some("begin alike")),
            (&[("a", Some("x-")), ("b", Some("x-y-"))], false, Some("begin alike")),
            (&[("a", Some("x-")), ("b", Some("x-"))], true, None),
            (&[("a", Some(""))], false, Some("can't begin a user name")),
            (&[("a", None), ("b", Some(""))], true, Some("can't begin a user name")),
            (&[("a", Some("A-"))], true, Some("can't begin a user name")),
            (&[("a", Some("-"))], false, Some("can't begin a user name")),
            (&[("a", Some("x/"))], false, Some("can't begin a user name")),
            (&[("a", Some("x:"))], false, Some("can't begin a user name")),
        ] {
            let decided = Naming::decide(providers, shared).map(|_| ()).map_err(|e| e.to_string());
            let right = match (&decided, fault) {
                (Err(error), Some(fault)) => error.contains(fault),
                (decided, fault) => decided.is_ok() && fault.is_none(),
            };
            assert!(right, "{providers:?}: {decided:?}");
        }
    }

    #[test]
    fn users_are_named_behind_their_prefix_and_none_before_anothers() {
        let named = Naming::decide(&[("a", None), ("b", Some("gh-"))], false).unwrap();
        let name = |naming: &Naming, user: &str| naming.name(identity(user)).map(|i| i.user().to_string()).ok();
        assert_eq!(name(&named[0], "devel").as_deref(), Some("devel"));
        assert_eq!(name(&named[0], "gh-devel"), None);
        assert_eq!(name(&named[0], "ghost").as_deref(), Some("ghost"));
        assert_eq!(name(&named[1], "devel").as_deref(), Some("gh-devel"));
        assert_eq!(name(&named[1], "gh-devel").as_deref(), Some("gh-gh-devel"));
        assert_eq!(name(&named[1], &"a".repeat(60)).map(|name| name.len()), Some(63));
        assert_eq!(name(&named[1], &"a".repeat(61)), None);
        let shared = Naming::decide(&[("a", None), ("b", Some("gh-"))], true).unwrap();
        assert_eq!(name(&shared[0], "gh-devel").as_deref(), Some("gh-devel"));
    }

    #[test]
    fn what_else_is_known_of_a_user_survives_the_name() {
        let named = Naming::decide(&[("b", Some("gh-"))], false).unwrap();
        let renamed = named[0].name(identity("devel").with_roles(["r".to_owned()])).unwrap();
        assert_eq!((renamed.roles(), renamed.provider()), (&["r".to_owned()][..], "test"));
        assert_eq!(renamed.scope().owner().as_str(), "gh-devel");
    }
}
