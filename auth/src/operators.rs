//! Who may look after what others build: named users, and whoever has one of the named roles.

use std::collections::HashSet;

use crate::{Identity, InvalidUserName, UserName};

/// Whom configuration lets read and cancel what others build.
#[derive(Clone, Debug, Default)]
pub struct Operators {
    /// Provider and user: two providers may know the same name.
    users: HashSet<(String, UserName)>,
    /// Provider and role, likewise.
    roles: HashSet<(String, String)>,
}

/// An operator isn't written as one.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOperator {
    /// Not two parts.
    #[error("{0:?} is no operator; write <provider>:<user>")]
    Form(String),
    /// Not two parts.
    #[error("{0:?} is a role of nobody's; write <provider>:<role>, the provider being an identity.jwt's name")]
    RoleForm(String),
    /// No such provider, or its users have no roles.
    #[error("{0:?}: no identity.jwt of that name has a roles_claim; write <provider>:<role>")]
    RoleProvider(String),
    /// There is no such provider.
    #[error("{0:?}: no provider of that name is configured")]
    Provider(String),
    /// The user can't be one.
    #[error("{0:?}")]
    User(String, #[source] InvalidUserName),
}

impl Operators {
    /// Reads `<provider>:<user>` of each operator and `<provider>:<role>` of each role, the user as Kiln names them, prefix included.
    ///
    /// # Errors
    /// When one isn't written so or names a provider that isn't among `providers`, or among those
    /// `with_roles`: a slip of the pen would give the power to nobody, or later to somebody else.
    pub fn parse(
        users: &[String],
        roles: &[String],
        providers: &[&str],
        with_roles: &[&str],
    ) -> Result<Self, InvalidOperator> {
        let operator = |text: &String| {
            let (provider, user) = text.split_once(':').ok_or_else(|| InvalidOperator::Form(text.clone()))?;
            if !providers.contains(&provider) {
                return Err(InvalidOperator::Provider(text.clone()));
            }
            let user = UserName::parse(user).map_err(|source| InvalidOperator::User(text.clone(), source))?;
            Ok((provider.to_owned(), user))
        };
        let with_role = |text: &String| {
            let role = text.split_once(':').filter(|(_, role)| !role.is_empty());
            let (provider, role) = role.ok_or_else(|| InvalidOperator::RoleForm(text.clone()))?;
            if !with_roles.contains(&provider) {
                return Err(InvalidOperator::RoleProvider(text.clone()));
            }
            Ok((provider.to_owned(), role.to_owned()))
        };
        let users = users.iter().map(operator).collect::<Result<_, _>>()?;
        Ok(Self { users, roles: roles.iter().map(with_role).collect::<Result<_, _>>()? })
    }

    /// Whether this identity is one of them.
    pub(crate) fn include(&self, identity: &Identity) -> bool {
        let named = |(provider, user): &(String, UserName)| identity.provider() == provider && identity.user() == user;
        let entitled =
            |(provider, role): &(String, String)| identity.provider() == provider && identity.roles().contains(role);
        self.users.iter().any(named) || self.roles.iter().any(entitled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(users: &[&str], roles: &[&str]) -> Result<Operators, InvalidOperator> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Operators::parse(&owned(users), &owned(roles), &["users-file", "github", "sso"], &["github", "sso"])
    }

    #[test]
    fn operators_are_named_with_their_provider_or_have_a_named_role_of_it() {
        let operators = parse(&["users-file:root"], &["github:kiln-operator", "sso:urn:x:admin"]).unwrap();
        for (user, provider, role, is_one) in [
            ("root", "users-file", "", true),
            ("root", "github", "", false),
            ("devel", "users-file", "", false),
            ("devel", "github", "kiln-operator", true),
            ("devel", "github", "Kiln-Operator", false),
            ("devel", "github", "kiln-operators", false),
            // Another issuer gives out roles as it likes.
            ("devel", "sso", "kiln-operator", false),
            ("devel", "sso", "urn:x:admin", true),
            ("devel", "sso", "x:admin", false),
        ] {
            let identity = Identity::new(UserName::parse(user).unwrap(), provider).with_roles([role.to_owned()]);
            assert_eq!(operators.include(&identity), is_one, "{provider}:{user} {role}");
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for user in ["root", ":root", "users-file:", "users-file:Root", "nobody:root", "users_file:root", "github:a:b"]
        {
            assert!(parse(&[user], &[]).is_err(), "{user}");
        }
        for role in ["", "admin", ":admin", "github:", "github", "users-file:admin", "nobody:admin", "urn:x:admin"] {
            let error = parse(&[], &[role]).unwrap_err().to_string();
            assert!(error.contains("write <provider>:<role>"), "{error}");
        }
    }
}
