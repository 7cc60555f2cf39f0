//! Writes the solve request of an attempt: the Dockerfile frontend's attributes, the source policy
//! and the exporter. The attributes are a closed set; a caller's values become `build-arg:` only.

use std::{collections::HashMap, io::Read as _, sync::Arc};

use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, Exporter, SolveRequest,
    sourcepolicy::{MatchType, Policy, PolicyAction, Rule, Selector},
};

use crate::{BuildSpec, Limits, SourceRule, SourceRules, Tree};

/// What becomes of the result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Export {
    /// Pushed under its digest alone.
    PushByDigest,
    /// Kept in a Docker Engine's graph-driver store under this name.
    Keep(String),
}

/// What an operator sets for every build on an engine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StepSettings {
    /// The control group under which steps run, where the engine takes one.
    pub cgroup_parent: Option<String>,
}

/// A request under the name `reference`, over the session with this id.
pub(crate) fn request(
    spec: &BuildSpec,
    reference: String,
    session: &str,
    export: &Export,
    steps: &StepSettings,
) -> SolveRequest {
    let exporter = exporter(spec, export);
    SolveRequest {
        r#ref: reference,
        session: session.to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attributes(spec, steps),
        // BuildKit before 0.13 reads only this pair.
        exporter_deprecated: exporter.r#type.clone(),
        exporter_attrs_deprecated: exporter.attrs.clone(),
        exporters: vec![exporter],
        cache: Some(CacheOptions::default()),
        source_policy: Some(policy(&spec.sources)),
        // Not recorded: the history keeps arguments and logs.
        internal: true,
        ..SolveRequest::default()
    }
}

/// A request of which everything is denied, its own context first.
pub(crate) fn denied(reference: String, session: &str) -> SolveRequest {
    SolveRequest {
        r#ref: reference,
        session: session.to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: [("cmdline".to_owned(), "kiln".to_owned())].into(),
        source_policy: Some(Policy { version: 1, rules: vec![rule(PolicyAction::Deny, "*")] }),
        internal: true,
        ..SolveRequest::default()
    }
}

fn attributes(spec: &BuildSpec, steps: &StepSettings) -> HashMap<String, String> {
    // The caller's arguments first, so that they can't replace what keeps tenants apart.
    let arguments = spec.args.iter().map(|(name, value)| (name.as_str(), value));
    let proxy = spec.proxy.iter().map(|(name, value)| (name.as_str(), value));
    let mut attributes: HashMap<String, String> =
        arguments.chain(proxy).map(|(name, value)| (format!("build-arg:{name}"), value.clone())).collect();

    let mut set = |name: &str, value: String| drop(attributes.insert(name.to_owned(), value));
    set("filename", spec.dockerfile.clone());
    // In every step's cache key, and not in the image: one tenant's layers are no other's.
    set("hostname", spec.tenant.step_hostname());
    set("build-arg:BUILDKIT_CACHE_MOUNT_NS", spec.tenant.cache_namespace());
    // The frontend takes this for a sign that it was started by a `# syntax=` line, and follows none.
    set("cmdline", "kiln".to_owned());
    if !spec.platforms.is_empty() {
        set("platform", spec.platforms.join(","));
    }
    if let Some(parent) = &steps.cgroup_parent {
        set("cgroup-parent", parent.clone());
    }
    // Frontends before 0.33 don't know these and pass over them; a probe tells which ones obey.
    let Limits { memory, cpu_millis, .. } = spec.limits;
    if let Some(memory) = memory {
        set("memory", memory.to_string());
        // No swap beyond it.
        set("memswap", memory.to_string());
    }
    if let Some(millis) = cpu_millis {
        // The kernel takes no quota below a millisecond.
        set("cpuperiod", "100000".to_owned());
        set("cpuquota", (u64::from(millis) * 100).max(1000).to_string());
    }
    attributes
}

fn exporter(spec: &BuildSpec, export: &Export) -> Exporter {
    let set = |attrs: &[(&str, String)]| attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let yes = || "true".to_owned();
    match export {
        Export::PushByDigest => {
            let to = &spec.destination;
            let name = format!("{}/{}", to.registry, to.target.repository());
            let mut attrs: HashMap<String, String> = set(&[
                ("name", name),
                ("push", yes()),
                ("push-by-digest", yes()),
                // A Docker Engine would keep it among its images, under a name that isn't Kiln's.
                ("store", "false".to_owned()),
                ("oci-mediatypes", yes()),
            ]);
            // BuildKit speaks plain HTTP to this machine's own registries by itself, and before 0.13 it
            // loses the credentials of an upload where it finds that out by trying.
            if (to.plain_http && !is_loopback(&to.registry)) || to.skip_verify {
                attrs.insert("registry.insecure".to_owned(), yes());
            }
            Exporter { r#type: "image".to_owned(), attrs }
        }
        Export::Keep(name) => Exporter { r#type: "moby".to_owned(), attrs: set(&[("name", name.clone())]) },
    }
}

/// Whether a registry, `host[:port]`, is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// Denies everything, then allows the context, then what the rules say: the last match wins.
fn policy(sources: &SourceRules) -> Policy {
    let mut rules = vec![
        rule(PolicyAction::Deny, "*"),
        rule(PolicyAction::Allow, "local://context"),
        rule(PolicyAction::Allow, "local://dockerfile"),
    ];
    rules.extend(sources.0.iter().map(|source| match source {
        SourceRule::Allow(identifier) => rule(PolicyAction::Allow, identifier),
        SourceRule::Deny(identifier) => rule(PolicyAction::Deny, identifier),
    }));
    Policy { version: 1, rules }
}

fn rule(action: PolicyAction, identifier: &str) -> Rule {
    Rule {
        action: action.into(),
        selector: Some(Selector {
            identifier: identifier.to_owned(),
            match_type: MatchType::Wildcard.into(),
            constraints: Vec::new(),
        }),
        updates: None,
    }
}

/// Whether the Dockerfile asks for another frontend, which Kiln doesn't let it have.
pub(crate) async fn names_syntax(context: &Arc<Tree>, dockerfile: &str) -> bool {
    /// Directives stand at the very top, in comments.
    const HEAD: u64 = 4096;
    let (context, dockerfile) = (Arc::clone(context), dockerfile.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut head = Vec::new();
        context.get(&dockerfile).map(|entry| context.read(entry).take(HEAD).read_to_end(&mut head));
        head
    });
    let head = read.await.unwrap_or_default();
    has_syntax_line(&String::from_utf8_lossy(&head))
}

fn has_syntax_line(head: &str) -> bool {
    let directive = |line: &str| {
        let text = line.trim_start_matches(['#', '/']).trim();
        text.split_once('=').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("syntax"))
    };
    head.trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .take_while(|line| line.is_empty() || line.starts_with('#') || line.starts_with("//"))
        .any(directive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_line_is_seen_where_the_frontend_would_see_it() {
        for (head, expected) in [
            ("# syntax=docker/dockerfile:1\nFROM x", true),
            ("#!/usr/bin/env x\n#  Syntax = evil\nFROM x", true),
            ("// syntax=docker/dockerfile:1\n", true),
            ("\u{feff}# syntax=x", true),
            ("FROM x\n# syntax=late", false),
            ("# a comment about syntax\nFROM x", false),
            ("", false),
        ] {
            assert_eq!(has_syntax_line(head), expected, "{head:?}");
        }
    }
}
