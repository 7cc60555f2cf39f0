//! The benchmark: each figure measured beside what it is compared with, in one run, as a Markdown table.

mod accept;
mod beside;
mod buildctl;
mod disk;
mod echo;
mod gateway;
mod memory;
mod openfaas;
mod pace;
mod report;
mod stack;
mod stats;
mod tokens;
mod wire;

use std::{error::Error, time::Duration};

use gateway::Gateway;
use report::{Report, Row};
use tokio::runtime::Builder;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The arguments with which only the stack is measured, or the door of OpenFaaS.
const STACK_ONLY: &str = "stack";
const OPENFAAS_ONLY: &str = "openfaas";
/// How long the gateways are left alone before their memory is looked at, at first and at last.
const AFTER_START: Duration = Duration::from_secs(3);
const AFTER_WORK: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    // One thread for who measures: on a small machine the gateway needs the others.
    let measuring = || Builder::new_current_thread().enable_all().build();
    match std::env::args().nth(1).as_deref() {
        Some(memory::CONTEXT_MODE) => measuring()?.block_on(memory::build_large_context()),
        Some(echo::ECHO_MODE) => Builder::new_multi_thread().enable_all().build()?.block_on(echo::serve()),
        Some(STACK_ONLY) => measuring()?.block_on(measure_stack()),
        Some(OPENFAAS_ONLY) => measuring()?.block_on(measure_openfaas()),
        _ => measuring()?.block_on(measure()),
    }
}

/// What changes with every layer, in half a minute.
async fn measure_stack() -> Result<()> {
    let mut report = Report::default();
    stack::measure(&Gateway::without_engine().await?, &mut report).await?;
    tokens::flood(&mut report).await?;
    println!("{report}");
    Ok(())
}

/// What changes with every touch of archives and builds, in two minutes.
async fn measure_openfaas() -> Result<()> {
    let mut report = Report::default();
    openfaas::measure(&mut report).await?;
    println!("{report}");
    Ok(())
}

async fn measure() -> Result<()> {
    let mut report = Report::default();
    let waiting = Gateway::without_engine().await?;
    let building = Gateway::with_engine().await?;
    tokio::time::sleep(AFTER_START).await;
    report.add(idle("Memory, idle, 3 s after start", &[&waiting, &building])?);
    stack::measure(&waiting, &mut report).await?;
    let accepted = accept::measure(&waiting, &mut report).await?;
    let built = beside::measure(&building, &mut report).await?;
    openfaas::measure(&mut report).await?;
    report.add(memory::large_context()?);
    tokens::cold(&mut report).await?;
    tokens::flood(&mut report).await?;
    eprintln!("bench: waiting {AFTER_WORK:?} to look at the memory again");
    tokio::time::sleep(AFTER_WORK).await;
    let after = "Memory, idle, 60 s after the benchmark";
    report.add(idle(&format!("{after}: {accepted} builds accepted and still queued"), &[&waiting])?);
    report.add(idle(&format!("{after}: {built} builds made"), &[&building])?);
    println!("{report}");
    Ok(())
}

fn idle(what: &str, gateways: &[&Gateway]) -> Result<Row> {
    let sizes: std::io::Result<Vec<f64>> = gateways.iter().map(|gateway| memory::resident(gateway.pid())).collect();
    let most = sizes?.into_iter().fold(0.0, f64::max);
    Ok(Row::at_most(what, most, 20.0, "MiB"))
}
