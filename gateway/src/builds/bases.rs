//! Which base images an owner may build on.

use kiln_auth::UserName;
use kiln_backends::{Failure, Reason};

use crate::{
    config::Bases,
    registry::{BaseRef, Host, matches},
};

/// Why an owner may build on a base: it decides whose credential its registry is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Permit {
    /// Anybody may, so nobody's credential is shown: the operator's would open private repositories.
    Public,
    /// It is the owner's own.
    Own,
    /// The operator shares it, and the operator's credential opens it.
    Shared,
}

impl Bases {
    /// Permits `base` for `owner`, who pushes to `own_registry`. Its host may stand for `mirrors`, which
    /// are asked in its place: where images are pushed to one of them, by this owner or by those who
    /// push to the `installation`'s registry, the same name there is somebody's.
    ///
    /// # Errors
    /// `BaseForbidden`, naming the setting that would permit it.
    pub(super) fn permit(
        &self,
        base: &BaseRef,
        owner: &UserName,
        own_registry: &str,
        installation: Option<&Host>,
        mirrors: &[Host],
    ) -> Result<Permit, Failure> {
        let pushed_to = |mirror: &&Host| mirror.as_str() == own_registry || Some(*mirror) == installation;
        let host = mirrors.iter().find(pushed_to).unwrap_or(base.host()).as_str();
        let name = format!("{host}/{}", base.repository());
        let public = self.public.iter().any(|public| public == host);
        let own = host == own_registry
            && base
                .repository()
                .strip_prefix(owner.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let shared = self.shared.iter().any(|shared| {
            let for_owner = shared.owners.is_empty() || shared.owners.iter().any(|o| o == owner.as_str());
            for_owner && matches(&shared.pattern, &name)
        });
        if own {
            return Ok(Permit::Own);
        }
        if shared || self.any {
            return Ok(Permit::Shared);
        }
        if public {
            return Ok(Permit::Public);
        }
        let message = format!(
            "{name} is not among the base images you may build on; the operator permits it with [[bases.shared]]"
        );
        Err(Failure::new(Reason::BaseForbidden, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SharedBase;

    #[test]
    fn only_public_own_and_shared_bases_are_permitted() {
        let bases = Bases {
            shared: vec![
                SharedBase { pattern: "registry:5000/bases/*".to_owned(), owners: Vec::new() },
                SharedBase { pattern: "registry:5000/vip".to_owned(), owners: vec!["ann".to_owned()] },
            ],
            ..Bases::default()
        };
        for (owner, base, permitted) in [
            ("ann", "python:3.13", true),
            ("ann", "ghcr.io/a/b", true),
            ("ann", "registry:5000/ann:x", true),
            ("ann", "registry:5000/ann/x:y", true),
            ("ann", "registry:5000/anna:x", false),
            ("ann", "registry:5000/bob:x", false),
            ("ann", "registry:5000/bases/python", true),
            ("ann", "registry:5000/vip", true),
            ("bob", "registry:5000/vip", false),
            ("ann", "registry:5000/vips", false),
            ("ann", "other:5000/ann", false),
        ] {
            let base = BaseRef::parse(base).unwrap();
            let owner = UserName::parse(owner).unwrap();
            assert_eq!(bases.permit(&base, &owner, "registry:5000", None, &[]).is_ok(), permitted, "{owner} {base}");
        }
    }

    #[test]
    fn a_mirror_that_images_are_pushed_to_opens_nobody_elses() {
        let bases = Bases {
            shared: vec![SharedBase { pattern: "registry:5000/library/*".to_owned(), owners: Vec::new() }],
            ..Bases::default()
        };
        let mirrors = [Host::parse("registry:5000").unwrap()];
        for (base, permitted) in [("python", true), ("ann/x", true), ("bob/x", false), ("docker.io/bob/x", false)] {
            let base = BaseRef::parse(base).unwrap();
            let owner = UserName::parse("ann").unwrap();
            assert_eq!(bases.permit(&base, &owner, "registry:5000", None, &mirrors).is_ok(), permitted, "{base}");
            // Whoever pushes elsewhere owns nothing there, and is no stranger to what is shared.
            let elsewhere = bases.permit(&base, &owner, "elsewhere", mirrors.first(), &mirrors).is_ok();
            assert_eq!(elsewhere, base.repository().starts_with("library/"), "{base}");
        }
    }
}
