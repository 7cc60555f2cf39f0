//! Builds that succeed.

use super::Bench;

/// The image is in the registry under its digest when the run returns.
///
/// # Panics
/// When it isn't.
pub async fn a_build_is_pushed_by_digest(bench: &Bench) {
    let outcome = bench.build("ann", &format!("FROM {{base}}\nRUN echo {}", bench.unique())).await;
    assert!(outcome.digest().starts_with("sha256:"), "{outcome:?}");
    println!("{outcome:#?}");
}
