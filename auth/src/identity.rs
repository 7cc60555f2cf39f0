//! Who calls: a user's name, the scope it gives, and what the provider says about them.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{Scope, UserName};

/// A proved caller. Cheap to clone, so that it can travel as a request extension.
#[derive(Clone, Debug)]
pub struct Identity {
    scope: Scope,
    provider: Arc<str>,
    environments: Option<Arc<Environments>>,
    roles: Arc<[String]>,
    expires: Option<SystemTime>,
    operator: bool,
}

/// A user's variables. Values may be passwords: they are erased when dropped and never printed.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Environment(BTreeMap<String, SecretString>);

#[derive(Debug)]
struct Environments {
    operator: Environment,
    merged: Environment,
}

static EMPTY: Environment = Environment(BTreeMap::new());

// === impl Identity ===

impl Identity {
    /// A user whom `provider` proved, and of whom it keeps no environment.
    #[must_use]
    pub fn new(user: UserName, provider: impl Into<Arc<str>>) -> Self {
        let (scope, provider) = (Scope::of(user), provider.into());
        Self { scope, provider, environments: None, roles: Arc::default(), expires: None, operator: false }
    }

    /// Adds what the provider keeps: the operator's variables, and the user's own, which win.
    #[must_use]
    pub fn with_environment(mut self, operator: Environment, users: &Environment) -> Self {
        let merged = operator.overlaid(users);
        self.environments = Some(Arc::new(Environments { operator, merged }));
        self
    }

    /// Adds the roles that the provider gives the user. They mean what configuration says.
    #[must_use]
    pub fn with_roles(mut self, roles: impl Into<Arc<[String]>>) -> Self {
        self.roles = roles.into();
        self
    }

    /// Notes when the credential stops being valid: the identity isn't to be kept for longer.
    #[must_use]
    pub fn expiring(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// Lets the user read and cancel what others build, because configuration says so.
    #[must_use]
    pub(crate) fn into_operator(mut self) -> Self {
        self.operator = true;
        self
    }

    /// The same caller under another name, with that name's scope.
    #[must_use]
    pub(crate) fn renamed(mut self, user: UserName) -> Self {
        self.scope = Scope::of(user);
        self
    }

    /// Lifts the bounds of the scope, for an installation that checks none, or a caller who by
    /// configuration may name everything.
    #[must_use]
    pub fn unbounded(mut self) -> Self {
        self.scope = Scope::unbounded(self.scope.owner().clone());
        self
    }

    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &UserName {
        self.scope.owner()
    }

    /// Which provider proved it.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The roles that the provider gives the user.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// When the credential stops being valid, if it says so.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// Whether the user may read and cancel what others build.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.operator
    }

    /// What the user may name.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether the provider keeps environments at all. Only then does an empty one mean that
    /// something is missing; a laptop's user simply has none.
    #[must_use]
    pub fn environment_known(&self) -> bool {
        self.environments.is_some()
    }

    /// The operator's variables overlaid by the user's own.
    ///
    /// OpenServerless's `start` works with these; `env` and `userenv` in its database.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        self.environments.as_ref().map_or(&EMPTY, |kept| &kept.merged)
    }

    /// The operator's variables alone.
    ///
    /// OpenServerless's `status` and `cleanup` ask only whether these exist.
    #[must_use]
    pub fn operator_environment(&self) -> &Environment {
        self.environments.as_ref().map_or(&EMPTY, |kept| &kept.operator)
    }

    /// Roughly the bytes that this identity holds in memory, for a cache's bound.
    #[must_use]
    pub(crate) fn weight(&self) -> u32 {
        // Nodes, pointers and the cache's own entry; measured is not needed, a floor is.
        const FIXED: usize = 512;
        let kept = self.environments.as_ref().map_or(0, |kept| kept.operator.weight() + kept.merged.weight());
        let roles: usize = self.roles.iter().map(|role| role.len() + size_of::<String>()).sum();
        u32::try_from(FIXED + kept + roles).unwrap_or(u32::MAX)
    }
}

// === impl Environment ===

impl Environment {
    /// The value of a variable, which may be a secret.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(ExposeSecret::expose_secret)
    }

    /// Every variable, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret()))
    }

    /// Whether there is no variable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn overlaid(&self, over: &Self) -> Self {
        let mut merged = self.0.clone();
        merged.extend(over.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self(merged)
    }

    fn weight(&self) -> usize {
        // Two boxes and their share of a tree node beside the text.
        const PER_VARIABLE: usize = 64;
        self.iter().map(|(name, value)| name.len() + value.len() + PER_VARIABLE).sum()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), SecretString::from(value.into()))).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;

    fn devel() -> Identity {
        Identity::new(UserName::parse("devel").unwrap(), "test")
    }

    #[test]
    fn the_users_own_variables_win_and_the_operators_stay_apart() {
        let operator = Environment::from_iter([("A", "1"), ("B", "1")]);
        let users = Environment::from_iter([("B", "2"), ("C", "2")]);
        let identity = devel().with_environment(operator, &users);
        let merged: Vec<_> = identity.environment().iter().collect();
        assert_eq!(merged, [("A", "1"), ("B", "2"), ("C", "2")]);
        assert_eq!(identity.operator_environment().get("B"), Some("1"));
        assert_eq!(identity.operator_environment().get("C"), None);
    }

    #[test]
    fn no_environment_kept_is_not_an_empty_environment() {
        assert!(!devel().environment_known() && devel().environment().is_empty());
        let kept = devel().with_environment(Environment::default(), &Environment::default());
        assert!(kept.environment_known() && kept.environment().is_empty());
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let identity = devel().with_environment(Environment::from_iter([("KEY", "canary")]), &Environment::default());
        let shown = format!("{identity:?}");
        assert!(shown.contains("KEY") && !shown.contains("canary"), "{shown}");
    }

    #[test]
    fn an_unbounded_identity_admits_what_a_bounded_one_refuses() {
        let foreign = || Target::parse("other:t").unwrap();
        assert!(devel().scope().admit(foreign()).is_err());
        assert!(devel().unbounded().scope().admit(foreign()).is_ok());
    }
}
