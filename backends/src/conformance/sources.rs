//! What a build may fetch, and what its steps may reach.

use std::time::Duration;

use tokio::{net::TcpListener, time::timeout};

use super::{Bench, builds::probed, registry};
use crate::{EventKind, Reason, SourceRule, StepNetwork};

/// Whatever isn't permitted is denied, wherever the Dockerfile names it, and named in the failure.
///
/// # Panics
/// When one of them is fetched.
pub async fn what_is_not_permitted_is_denied(bench: &Bench) {
    let other = format!("{}/bob/secret-image:1", bench.registry);
    for (line, named) in [
        (format!("FROM {other}"), other.as_str()),
        (format!("FROM {{base}}\nCOPY --from={other} /x /x"), &other),
        (format!("FROM {{base}}\nRUN --mount=from={other},target=/x true"), &other),
        ("FROM {base}\nADD http://127.0.0.1:9/x /x".to_owned(), "http://127.0.0.1:9/x"),
        ("FROM {base}\nADD https://127.0.0.1:9/r.git /x".to_owned(), "127.0.0.1:9/r.git"),
        ("FROM {base}\nADD git@127.0.0.1:r.git /x".to_owned(), "r.git"),
    ] {
        let failure = bench.build("ann", &line).await.failure().clone();
        assert_eq!(failure.reason, Reason::SourceDenied, "{line}: {failure:?}");
        assert!(failure.message.contains(named), "{line}: {failure:?}");
    }
}

/// A host that is permitted gives files, under any port only that was named, and never a repository.
///
/// # Panics
/// When more is fetched, or less.
pub async fn a_permitted_host_gives_files_and_no_repositories(bench: &Bench) {
    let host = &bench.registry;
    for (line, permitted) in [
        (format!("ADD http://{host}/v2/ /x"), true),
        (format!("ADD https://{host}/v2/ /x"), false),
        (format!("ADD http://user@{host}/v2/ /x"), false),
        (format!("ADD http://{host}.example.org/ /x"), false),
        (format!("ADD http://127.0.0.1:9/http://{host}/ /x"), false),
        (format!("ADD http://{host}/r.git /x"), false),
    ] {
        let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\n{line}\nRUN ls /x")));
        spec.sources.0.push(SourceRule::Allow(format!("http://{host}/*")));
        let outcome = bench.run(spec).await;
        if permitted {
            let _ = outcome.digest();
        } else {
            assert_eq!(outcome.failure().reason, Reason::SourceDenied, "{line}: {:?}", outcome.failure());
        }
    }
}

/// A frontend that was chosen by digest reads the Dockerfile, where the policy lets it be fetched; it
/// keeps tenants apart as the engine's own does.
///
/// # Panics
/// When another one does, or it is fetched against the policy.
pub async fn a_permitted_frontend_reads_the_dockerfile(bench: &Bench) {
    let repository = "bases/frontend";
    let image = format!("{}/{repository}", bench.registry);
    let image = format!("{image}@{}", registry::digest_of(&bench.registry, repository, "latest").await);
    let text = format!("# syntax=ignored\nFROM {{base}}\nRUN echo {}; hostname", bench.unique());
    let mut denied = bench.spec("ann", bench.dockerfile(&text));
    denied.frontend = Some(image.clone());
    let mut permitted = denied.clone();
    let failure = bench.run(denied).await.failure().clone();
    assert_eq!(failure.reason, Reason::SourceDenied, "{failure:?}");
    assert!(failure.message.contains(&image), "{failure:?}");

    permitted.attempt.attempt = 2;
    permitted.sources.0.push(SourceRule::Allow(format!("docker-image://{image}")));
    let hostname = permitted.tenant.step_hostname();
    let outcome = bench.run(permitted).await;
    let _ = outcome.digest();
    assert!(outcome.output().contains(&hostname), "{}", outcome.output());
    assert!(outcome.warnings().is_empty(), "{:?}", outcome.warnings());
    let fetched = outcome.events.iter().any(|event| match &event.kind {
        EventKind::StepStarted { name, .. } => name.contains(&image),
        _ => false,
    });
    assert!(fetched, "{:#?}", outcome.events);
}

/// Another frontend isn't started for a `# syntax=` line; a warning says so.
///
/// # Panics
/// When it is, or nothing is said.
pub async fn a_syntax_line_is_not_followed(bench: &Bench) {
    let outcome = bench.build("ann", "# syntax=127.0.0.1:9/evil/frontend:1\nFROM {base}\nRUN true").await;
    let _ = outcome.digest();
    assert!(outcome.warnings().iter().any(|text| text.contains("syntax")), "{:?}", outcome.warnings());
}

/// No socket of an engine is in a step's file system.
///
/// # Panics
/// When one is.
pub async fn a_step_sees_no_socket(bench: &Bench) {
    let text = format!("FROM {{base}}\nRUN echo {}; find / -xdev -type s; echo searched", bench.unique());
    let outcome = bench.build("ann", &text).await;
    let _ = outcome.digest();
    let output = outcome.output();
    assert!(output.contains("searched") && !output.contains(".sock"), "{output}");
}

/// A step reaches neither the machine's loopback nor the machine through the step network's gateway.
/// Engines that report the host's network are warned about instead.
///
/// # Panics
/// When a step gets through.
pub async fn a_step_reaches_nothing_on_the_machine(bench: &Bench) {
    if probed(bench).await.step_network == StepNetwork::Host || !bench.reaches_suite {
        return;
    }
    // The default route's gateway, in the kernel's reversed hexadecimal.
    let text = format!("FROM {{base}}\nRUN echo {}; cat /proc/net/route", bench.unique());
    let routes = bench.build("ann", &text).await;
    let _ = routes.digest();
    let gateway = routes.output().lines().find_map(gateway_of);
    for address in ["127.0.0.1".to_owned()].into_iter().chain(gateway) {
        let Ok(listener) = TcpListener::bind((address.as_str(), 0)).await else { panic!("{address} isn't ours") };
        let port = listener.local_addr().map_or(0, |local| local.port());
        let text =
            format!("FROM {{base}}\nRUN echo {}; nc -w 2 {address} {port} </dev/null; echo tried", bench.unique());
        let mut tries = bench.start(bench.spec("ann", bench.dockerfile(&text)));
        tries.shows("tried").await;
        let reached = timeout(Duration::ZERO, listener.accept()).await;
        assert!(reached.is_err(), "a step reached {address}:{port}");
        let _ = tries.end().await;
    }
}

fn gateway_of(route: &str) -> Option<String> {
    let mut fields = route.split_whitespace().skip(1);
    let (destination, gateway) = (fields.next()?, fields.next()?);
    let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
    (destination == "00000000").then(|| std::net::Ipv4Addr::from(gateway.swap_bytes()).to_string())
}
