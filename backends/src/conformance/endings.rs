//! Builds that are ended from outside: the engine is clean when the run returns.

use std::time::{Duration, Instant};

use super::Bench;
use crate::{Reason, RunError};

/// A cancelled build's step is gone when the run returns, and it returns soon.
///
/// # Panics
/// When a process of it still runs, or the run takes long.
pub async fn a_cancelled_build_leaves_no_process(bench: &Bench) {
    let unique = bench.unique();
    let mut running = bench.start(bench.spec("ann", bench.dockerfile(&endless(&unique))));
    running.shows("runs").await;
    assert!(runs(&unique), "the engine's steps must be visible in /proc for this case");
    let fired = Instant::now();
    running.cancel();
    let outcome = running.end().await;
    assert!(matches!(outcome.result, Err(RunError::Cancelled)), "{outcome:?}");
    assert!(fired.elapsed() < Duration::from_secs(10), "took {:?}", fired.elapsed());
    assert!(!runs(&unique), "the step still runs");
}

/// Cancelled before it began, it doesn't begin.
///
/// # Panics
/// When it does.
pub async fn a_build_cancelled_at_once_does_nothing(bench: &Bench) {
    let running = bench.start(bench.spec("ann", bench.dockerfile(&endless(&bench.unique()))));
    running.cancel();
    assert!(matches!(running.end().await.result, Err(RunError::Cancelled)));
}

/// Past its deadline a build fails, and its step is gone.
///
/// # Panics
/// When it goes on.
pub async fn a_build_past_its_deadline_fails_and_leaves_no_process(bench: &Bench) {
    let unique = bench.unique();
    let mut spec = bench.spec("ann", bench.dockerfile(&endless(&unique)));
    spec.limits.deadline = Duration::from_secs(4);
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.failure().reason, Reason::DeadlineExceeded);
    assert!(!runs(&unique), "the step still runs");
}

/// A run that is dropped ends on the engine too, which notices that its session is gone.
///
/// # Panics
/// When its step goes on.
pub async fn a_dropped_run_ends_on_the_engine(bench: &Bench) {
    let unique = bench.unique();
    let mut running = bench.start(bench.spec("ann", bench.dockerfile(&endless(&unique))));
    running.shows("runs").await;
    running.drop_run().await;
    let gone = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while runs(&unique) {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), gone).await.is_ok(), "the step still runs");
}

fn endless(unique: &str) -> String {
    format!("FROM {{base}}\nRUN sh -c 'echo runs; while :; do sleep 1; done' {unique}")
}

/// Whether a process on this machine has `word` among its arguments.
fn runs(word: &str) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        // The suite itself and the engine's helpers don't carry it as an argument of its own.
        arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    })
}
