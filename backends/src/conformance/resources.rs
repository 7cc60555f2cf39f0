//! What a build takes of this process. These cases look at the whole process: they can't share it
//! with others.

use std::{io::Write as _, time::Duration};

use super::Bench;
use crate::Tree;

/// Bytes that a context may add to the process, whatever its size.
const HEADROOM: u64 = 32 << 20;

/// Builds leave no descriptor behind, be they successful, failed or cancelled.
///
/// # Panics
/// When there are more than before.
pub async fn builds_leave_no_descriptor(bench: &Bench) {
    let _ = bench.build("ann", "FROM {base}").await.digest();
    let before = settled(|| descriptors() <= 64).await;
    for _ in 0..5 {
        let _ = bench.build("ann", &format!("FROM {{base}}\nENV WORD={}", bench.unique())).await.digest();
        let _ = bench.build("ann", &format!("FROM {{base}}\nRUN echo {}; exit 1", bench.unique())).await.failure();
        let mut running = bench.start(bench.spec(
            "ann",
            bench.dockerfile(&format!("FROM {{base}}\nRUN echo {}; echo runs; sleep 600", bench.unique())),
        ));
        running.shows("runs").await;
        running.cancel();
        let _ = running.end().await;
    }
    let after = settled(|| descriptors() <= before).await;
    assert!(after <= before, "{before} descriptors became {after}");
}

/// A context of 64 MiB passes through in bounded memory.
///
/// # Panics
/// When the process grows with it.
pub async fn a_large_context_takes_little_memory(bench: &Bench) {
    const SIZE: u64 = 64 << 20;
    let text = format!("FROM {}\nCOPY big /big\nRUN wc -c /big", bench.base_reference());
    let Ok(tree) = large(&text, SIZE) else { panic!("no space for the context") };
    let _ = bench.build("ann", "FROM {base}").await.digest();
    let Some(before) = peak_from_now() else { panic!("/proc/self/clear_refs") };
    let outcome = bench.run(bench.spec("ann", tree)).await;
    let _ = outcome.digest();
    assert!(outcome.output().contains(&SIZE.to_string()), "{}", outcome.output());
    let grown = memory("VmHWM:").unwrap_or(u64::MAX).saturating_sub(before);
    assert!(grown <= HEADROOM, "{} MiB for a context of {} MiB", grown >> 20, SIZE >> 20);
}

/// A context in a data file: the Dockerfile, and `size` bytes that are nowhere the same.
fn large(dockerfile: &str, size: u64) -> Result<Tree, Box<dyn std::error::Error>> {
    let mut data = std::io::BufWriter::new(tempfile::tempfile()?);
    data.write_all(dockerfile.as_bytes())?;
    let mut word = u64::from(std::process::id()) | 1;
    for _ in 0..size / 8 {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        data.write_all(&word.to_le_bytes())?;
    }
    let head = dockerfile.len() as u64;
    let tree = Tree::builder().section("Dockerfile", 0o644, 0, head)?.section("big", 0o644, head, size)?;
    Ok(tree.over(data.into_inner()?))
}

/// Sockets close a moment after their last owner is gone: waits for it, and counts.
async fn settled(enough: impl Fn() -> bool) -> usize {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let _ = tokio::time::timeout(Duration::from_secs(5), async {
        while !enough() {
            tick.tick().await;
        }
    })
    .await;
    descriptors()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(usize::MAX, Iterator::count)
}

/// Resets the process's peak, and tells what it has now.
fn peak_from_now() -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    memory("VmRSS:")
}

fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}
