//! Whose builds a caller may look after: their own, and an operator everybody's, which is noted each time.

use kiln_auth::{Identity, Origin, UserName, audit};
use kiln_backends::BuildId;

use crate::{builds::Builds, ledger::LedgerError};

/// Whose build this is, as far as the caller may know: for all but operators it is theirs or none.
pub(super) async fn owner_of(
    builds: &Builds,
    identity: &Identity,
    id: BuildId,
) -> Result<Option<UserName>, LedgerError> {
    if identity.is_operator() { builds.owner(id).await } else { Ok(Some(identity.user().clone())) }
}

/// The owner whose builds a caller asks for; `None` for another's, but for operators.
pub(super) fn named(identity: &Identity, owner: Option<&str>) -> Option<UserName> {
    match owner {
        None => Some(identity.user().clone()),
        Some(owner) if owner == identity.user().as_str() || identity.is_operator() => UserName::parse(owner).ok(),
        Some(_) => None,
    }
}

/// Notes that an operator looked at what is another's.
pub(super) fn note(what: &'static str, identity: &Identity, origin: Origin, owner: &UserName, build: Option<BuildId>) {
    if owner == identity.user() {
        return;
    }
    let line = audit::Line::by(what, identity.user()).from(origin).whose(owner);
    match build {
        Some(id) => line.build(&id).done(),
        None => line.done(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_owner_is_named_by_operators_alone() {
        // Who is one, `kiln_auth::Providers` decides; here is nobody.
        let devel = Identity::new(UserName::parse("devel").unwrap(), "test");
        for (owner, named_as) in
            [(None, Some("devel")), (Some("devel"), Some("devel")), (Some("other"), None), (Some(""), None)]
        {
            assert_eq!(named(&devel, owner).map(|name| name.to_string()).as_deref(), named_as, "{owner:?}");
        }
    }
}
