//! Two owners on one engine: what one has, the other doesn't get.

use super::{Bench, builds::probed};
use crate::{BuildArg, Secret};

/// Same path, size and time in two contexts: each build gets its own bytes.
///
/// # Panics
/// When one gets the other's.
pub async fn contexts_that_look_alike_are_not_mixed_up(bench: &Bench) {
    let unique = bench.unique();
    let text = format!("FROM {{base}}\nCOPY f /{unique}\nRUN cat /{unique}");
    for (owner, bytes) in [("ann", &b"bytes-of-ann"[..]), ("bob", b"bytes-of-bob"), ("ann", b"bytes-of-an2")] {
        let outcome = bench.run(bench.spec(owner, bench.with_files(&text, &[("f", bytes)]))).await;
        let (_, output) = (outcome.digest(), outcome.output());
        assert_eq!(output, String::from_utf8_lossy(bytes), "{owner}");
    }
}

/// A step that used a secret isn't taken from the cache for an owner who lacks it.
///
/// # Panics
/// When the other owner gets the first one's layer.
pub async fn a_layer_made_with_a_secret_stays_with_its_owner(bench: &Bench) {
    let text = format!(
        "FROM {{base}}\nRUN --mount=type=secret,id=s cat /run/secrets/s > /{0} || true\nRUN cat /{0}",
        bench.unique()
    );
    let mut ann = bench.spec("ann", bench.dockerfile(&text));
    ann.secrets = [("s".to_owned(), secret("canary-of-ann"))].into();
    let with = bench.run(ann).await;
    let _ = with.digest();
    assert!(with.output().contains("canary-of-ann"), "{}", with.output());
    let without = bench.build("bob", &text).await;
    let _ = without.digest();
    assert!(!without.output().contains("canary"), "{}", without.output());
}

/// Nor is a running step shared, nor its output.
///
/// # Panics
/// When the other owner's log shows the first one's secret.
pub async fn a_running_step_is_not_shared_between_owners(bench: &Bench) {
    let text = format!(
        "FROM {{base}}\nRUN --mount=type=secret,id=s cat /run/secrets/s; echo {}-runs; sleep 600",
        bench.unique()
    );
    let mut ann = bench.spec("ann", bench.dockerfile(&text));
    ann.secrets = [("s".to_owned(), secret("canary-of-ann"))].into();
    let mut first = bench.start(ann);
    first.shows("canary-of-ann").await;
    let mut second = bench.start(bench.spec("bob", bench.dockerfile(&text)));
    second.shows("-runs").await;
    first.cancel();
    second.cancel();
    let _ = first.end().await;
    let seen = second.end().await.output();
    assert!(!seen.contains("canary"), "{seen}");
}

/// A cache mount of the same id is another one for another owner, and the same for the same.
///
/// # Panics
/// When it isn't.
pub async fn cache_mounts_are_split_by_owner(bench: &Bench) {
    let id = bench.unique();
    // The mount's id isn't in the cache key, hence the word in the command.
    let step = |command: &str| format!("FROM {{base}}\nRUN --mount=type=cache,id={id},target=/c {command} # {id}");
    let _ = bench.build("ann", &step("echo canary-of-ann > /c/f")).await.digest();
    let other = bench.build("bob", &step("cat /c/f || echo none")).await;
    let _ = other.digest();
    assert!(other.output().contains("none") && !other.output().contains("canary"), "{}", other.output());
    if !probed(bench).await.keeps_cache {
        return;
    }
    let own = bench.build("ann", &step("cat /c/f || echo none")).await;
    let _ = own.digest();
    assert!(own.output().contains("canary-of-ann"), "{}", own.output());
}

/// The same build of the same owner comes from the cache.
///
/// # Panics
/// When a step runs again.
pub async fn an_owner_keeps_their_own_cache(bench: &Bench) {
    if !probed(bench).await.keeps_cache {
        return;
    }
    let text = format!("FROM {{base}}\nCOPY f /f\nRUN echo {}", bench.unique());
    let spec = || bench.spec("ann", bench.with_files(&text, &[("f", b"same")]));
    let (first, second) = (bench.run(spec()).await, bench.run(spec()).await);
    assert_eq!(first.digest(), second.digest());
    assert_ne!(first.output(), "");
    assert_eq!(second.output(), "");
}

/// Arguments that steer the engine can't be a caller's.
///
/// # Panics
/// When one is taken.
pub async fn arguments_that_steer_the_engine_are_refused(bench: &Bench) {
    for name in [
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_SANDBOX_HOSTNAME",
        "BUILDKIT_SYNTAX",
        "BUILDKIT_MULTI_PLATFORM",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "buildkit_syntax",
        "A:B",
        "",
    ] {
        assert!(BuildArg::parse(name).is_err(), "{name:?}");
    }
    // And a step's host name is the owner's, whatever its Dockerfile says.
    let spec = bench.spec(
        "ann",
        bench.dockerfile(&format!(
            "FROM {{base}}\nARG BUILDKIT_SANDBOX_HOSTNAME=mine\nRUN echo {}; hostname",
            bench.unique()
        )),
    );
    let hostname = spec.tenant.step_hostname();
    let outcome = bench.run(spec).await;
    let _ = outcome.digest();
    assert!(outcome.output().contains(&hostname), "{}", outcome.output());
}

fn secret(text: &str) -> Secret {
    text.as_bytes().to_vec().into()
}
