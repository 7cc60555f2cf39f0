//! What processes hold: a gateway at rest, and the BuildKit client while 1 GiB of context goes through it.

use std::{fs, io, process::Command, sync::Arc, time::Duration};

use kiln_backends::{BasicCredential, BuildkitdBackend, BuildkitdConfig, Tree, conformance::Bench};
use kiln_conformance_tests::engine;

use crate::{Result, report::Row};

/// The argument with which this program is the process that builds the large context.
pub(crate) const CONTEXT_MODE: &str = "--large-context";
const CONTEXT: u64 = 1 << 30;
/// A disk that others use, too, may need this long for it.
const WITHIN: Duration = Duration::from_secs(170);

/// Resident memory of a process, MiB.
pub(crate) fn resident(pid: u32) -> io::Result<f64> {
    field(&pid.to_string(), "VmRSS:")
}

/// The most that a process held since its peak was reset, MiB.
pub(crate) fn peak(pid: u32) -> io::Result<f64> {
    field(&pid.to_string(), "VmHWM:")
}

pub(crate) fn reset_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Builds the large context in a process of its own, in which nothing else has grown before.
pub(crate) fn large_context() -> Result<Row> {
    let output = Command::new("/proc/self/exe").arg(CONTEXT_MODE).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let grown = text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let what = "Memory, peak beyond idle while a 1 GiB context is sent: the BuildKit client in a process of its own";
    Ok(Row::at_most(what, grown, 32.0, "MiB"))
}

/// Prints by how many MiB this process grows while the daemon reads a 1 GiB file of the context.
pub(crate) async fn build_large_context() -> Result<()> {
    let data = tempfile::tempfile()?;
    let backend = BuildkitdBackend::new(BuildkitdConfig::at(engine("KILN_TEST_BUILDKIT").parse()?))?;
    let nobody = BasicCredential { username: String::new(), password: String::new().into() };
    let registry = engine("KILN_TEST_REGISTRY");
    let bench = Bench::new(Arc::new(backend), registry.clone(), (registry, nobody), "bases/debian:latest".to_owned());
    // Mounted instead of copied: the bytes pass the client all the same, and the image stays small.
    let step = "RUN --mount=type=bind,source=large,target=/large wc -c /large";
    let dockerfile = format!("FROM {}\n{step} # {}\n", bench.base_reference(), bench.unique());
    std::os::unix::fs::FileExt::write_all_at(&data, dockerfile.as_bytes(), CONTEXT)?;
    let tree = Tree::builder().section("large", 0o644, 0, CONTEXT)?;
    let tree = tree.section("Dockerfile", 0o644, CONTEXT, dockerfile.len() as u64)?.over(data);
    let before = bench.build("ann", &format!("FROM {{base}}\nRUN echo {}", bench.unique())).await;
    if before.result.is_err() {
        return Err(format!("{:?}", before.result).into());
    }
    let itself = std::process::id();
    reset_peak(itself)?;
    let idle = resident(itself)?;
    let mut spec = bench.spec("ann", tree);
    spec.limits.deadline = WITHIN;
    let outcome = bench.run(spec).await;
    if !outcome.output().contains(&CONTEXT.to_string()) {
        return Err(format!("{:?} {}", outcome.result, outcome.output()).into());
    }
    println!("{}", peak(itself)? - idle);
    Ok(())
}

fn field(process: &str, field: &str) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other(format!("{field} of {process} is unknown")))
}
