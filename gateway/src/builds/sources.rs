//! What a build from a caller's own Dockerfile may fetch: every base that policy permits its owner.

use kiln_auth::UserName;
use kiln_backends::{EventKind, EventSink, Failure, Reason, SourceRule, SourceRules, syntax_of};

use super::attempt::Materials;
use crate::{
    config::Bases,
    recipes::Context,
    registry::{BaseRef, Credential, Host, PullGrant, Push, Registries},
};

/// Whose bases, and where images go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach<'a> {
    /// The owner of the build.
    pub(super) owner: &'a UserName,
    /// Where this owner's images go.
    pub(super) own_registry: &'a Host,
    /// Where everybody's go who names no registry.
    pub(super) installation: Option<&'a Host>,
    /// Which hosts stand for which.
    pub(super) registries: &'a Registries,
}

impl Bases {
    /// The rules for every base that [`Bases::permit`] would permit, as the engine enforces them: it
    /// denies what none of them allows, and of several the last one counts.
    pub(super) fn rules(&self, reach: Reach<'_>) -> SourceRules {
        let allow = |identifier: String| SourceRule::Allow(format!("docker-image://{identifier}"));
        if self.any {
            return SourceRules(vec![allow("*".to_owned())]);
        }
        let named = |name: &str| [allow(format!("{name}:*")), allow(format!("{name}@*"))];
        let own = format!("{}/{}", reach.own_registry, reach.owner);
        let mut repositories = vec![own.clone(), format!("{own}/*")];
        repositories.extend(self.shared_with(reach.owner).map(str::to_owned));

        let mut rules: Vec<_> = self.public.iter().map(|host| allow(format!("{host}/*"))).collect();
        rules.extend(repositories.iter().flat_map(|name| named(name)));
        // A host that stands for one to which images are pushed is judged by that one's names.
        for (host, settings) in reach.registries.iter() {
            let pushed_to = |mirror: &&Host| *mirror == reach.own_registry || Some(*mirror) == reach.installation;
            let Some(mirror) = settings.mirrors.iter().find(pushed_to) else { continue };
            rules.push(SourceRule::Deny(format!("docker-image://{host}/*")));
            if self.public.iter().any(|public| public == mirror.as_str()) {
                rules.push(allow(format!("{host}/*")));
            }
            let there = repositories.iter().filter_map(|name| name.strip_prefix(mirror.as_str())?.strip_prefix('/'));
            rules.extend(there.flat_map(|name| named(&format!("{host}/{name}"))));
        }
        SourceRules(rules)
    }

    /// The patterns of the images that are shared with this owner.
    fn shared_with(&self, owner: &UserName) -> impl Iterator<Item = &str> {
        let is_for = move |owners: &[String]| owners.is_empty() || owners.iter().any(|o| o == owner.as_str());
        self.shared.iter().filter(move |shared| is_for(&shared.owners)).map(|shared| shared.pattern.as_str())
    }
}

impl Materials {
    /// The frontend that reads the Dockerfile in the place of the engine's own: the one that the caller
    /// names, where it is permitted. Another one isn't followed, which the log says; of a syntax line the
    /// backend says it.
    pub(super) async fn frontend(&self, context: &Context, sink: &EventSink) -> Option<&BaseRef> {
        if let Some(named) = &context.frontend {
            let permitted = self.sources.frontend(named);
            if permitted.is_some() {
                return permitted;
            }
            let text =
                "the frontend that the archive names is not followed: it isn't among sources.frontends".to_owned();
            sink.emit(EventKind::Warning { text }).await;
        }
        if self.sources.frontends.is_empty() {
            return None;
        }
        self.sources.frontend(&syntax_of(&context.tree, &context.dockerfile).await?)
    }

    /// The rules for all that a caller's Dockerfile may fetch.
    pub(super) fn rules(&self, reach: Reach<'_>, frontend: Option<&BaseRef>) -> SourceRules {
        let SourceRules(mut rules) = self.bases.rules(reach);
        rules.extend(frontend.map(|image| SourceRule::Allow(image.policy_identifier())));
        rules.extend(self.sources.add_hosts.iter().map(|host| SourceRule::Allow(host.pattern())));
        SourceRules(rules)
    }

    /// What the session shows the registries of bases and frontend: nobody's credential where anybody may
    /// fetch, the owner's for their own, the operator's for what the operator shares.
    pub(super) async fn pulls(
        &self,
        owner: &UserName,
        push: &Push,
        frontend: Option<&BaseRef>,
    ) -> Result<Vec<PullGrant>, Failure> {
        let own = if self.bases.any { vec!["*".to_owned()] } else { vec![owner.to_string(), format!("{owner}/*")] };
        let mut pulls =
            vec![PullGrant { host: push.host.clone(), repositories: own, credential: push.credential.clone() }];
        if self.bases.any {
            // All others are the session's business: which registries a Dockerfile names nobody knows yet.
            return Ok(pulls);
        }
        if let Some(image) =
            frontend.filter(|image| !self.bases.public.iter().any(|host| host == image.host().as_str()))
        {
            let (host, repositories) = (image.host().clone(), vec![image.repository().to_owned()]);
            pulls.push(PullGrant { credential: self.operators(&host).await?, host, repositories });
        }
        for pattern in self.bases.shared_with(owner) {
            // Which host a pattern over hosts means is for the Dockerfile to say: none of them is shown anything.
            let Some((host, repository)) = pattern.split_once('/') else { continue };
            let Ok(host) = Host::parse(host) else { continue };
            let credential = self.operators(&host).await?;
            pulls.push(PullGrant { host, repositories: vec![repository.to_owned()], credential });
        }
        let everything = |host| PullGrant { host, repositories: vec!["*".to_owned()], credential: None };
        pulls.extend(self.bases.public.iter().filter_map(|host| Host::parse(host).ok()).map(everything));
        Ok(pulls)
    }

    /// The operator's own credential for a registry.
    async fn operators(&self, host: &Host) -> Result<Option<Credential>, Failure> {
        let credential = self.process.credential(host).await;
        credential.map_err(|error| Failure::new(Reason::BaseForbidden, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::SharedBase,
        registry::{BaseRef, matches},
    };

    /// As the engine does: denied unless allowed, and of several rules the last one counts.
    fn permits(rules: &SourceRules, base: &str) -> bool {
        let identifier = BaseRef::parse(base).unwrap().policy_identifier();
        let decided = rules.0.iter().rev().find_map(|rule| match rule {
            SourceRule::Allow(pattern) => matches(pattern, &identifier).then_some(true),
            SourceRule::Deny(pattern) => matches(pattern, &identifier).then_some(false),
        });
        decided.unwrap_or(false)
    }

    #[test]
    fn the_engine_is_told_what_the_policy_says() {
        let bases = Bases {
            shared: vec![
                SharedBase { pattern: "registry:5000/bases/*".to_owned(), owners: Vec::new() },
                SharedBase { pattern: "registry:5000/vip".to_owned(), owners: vec!["bob".to_owned()] },
            ],
            ..Bases::default()
        };
        let registry = Host::parse("registry:5000").unwrap();
        let plain = Registries::default();
        let mirrored: Registries = toml::from_str("['docker.io']\nmirrors = ['registry:5000']").unwrap();
        let owner = UserName::parse("ann").unwrap();
        let pin = format!("@sha256:{}", "0".repeat(64));
        for base in [
            "python:3.13",
            "ghcr.io/a/b",
            "registry:5000/ann:x",
            "registry:5000/ann/x:y",
            "registry:5000/anna:x",
            "registry:5000/bob:x",
            "registry:5000/bases/python",
            "registry:5000/bases:x",
            "registry:5000/vip",
            "registry:5000/vips",
            "other:5000/ann",
            "docker.io/ann/x",
            "docker.io/bases/x",
        ] {
            for registries in [&plain, &mirrored] {
                let reach = Reach { owner: &owner, own_registry: &registry, installation: Some(&registry), registries };
                let rules = bases.rules(reach);
                for base in [base.to_owned(), format!("{base}{pin}")] {
                    let parsed = BaseRef::parse(&base).unwrap();
                    let mirrors = registries.mirrors(parsed.host());
                    let want = bases.permit(&parsed, &owner, registry.as_str(), Some(&registry), mirrors);
                    assert_eq!(permits(&rules, &base), want.is_ok(), "{base} {mirrors:?}");
                }
            }
        }
        let reach = Reach { owner: &owner, own_registry: &registry, installation: None, registries: &plain };
        let any = Bases { any: true, ..bases }.rules(reach);
        assert!(permits(&any, "other:5000/x"));
    }
}
