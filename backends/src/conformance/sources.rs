//! What a build may fetch, and what its steps may reach.

use std::time::Duration;

use tokio::{net::TcpListener, time::timeout};

use super::{Bench, builds::probed};
use crate::{Reason, StepNetwork};

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
    if probed(bench).await.step_network == StepNetwork::Host {
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
