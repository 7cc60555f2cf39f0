//! `start` to the durable answer, alone and from many callers, beside bare syncs of the same disk; and `status`.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Result,
    disk::Disk,
    gateway::{Gateway, OWNER, request},
    report::{Report, Row},
    stats::{PAIRS, median, ms, percentile},
    wire::Wire,
};

/// Single calls, each beside one sync.
const SINGLE: usize = PAIRS * 300;
/// Callers at once.
const CALLERS: usize = 64;
const STATUS_CALLERS: usize = 8;
/// How long each round of a rate takes.
const ROUND: Duration = Duration::from_millis(700);

/// Measures on a gateway that builds nothing; returns how many builds it has accepted.
pub(crate) async fn measure(gateway: &Gateway, report: &mut Report) -> Result<usize> {
    let mut disk = Disk::below(gateway.folder())?;
    let start = start_request(gateway);
    let mut wire = Wire::connect(&gateway.address).await?;
    let first: Value = serde_json::from_str(wire.send(&start).await?)?;
    let id = first["id"].as_str().unwrap_or_default();

    let (mut syncs, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE {
        syncs.push(ms(disk.sync()?));
        let began = Instant::now();
        wire.send(&start).await?;
        starts.push(ms(began.elapsed()));
    }
    let (sync50, sync99) = (median(&syncs), percentile(&syncs, 99));
    report.add(Row::scale("4 KiB append and `fdatasync`, p50 and p99", format!("{sync50:.2} ms, {sync99:.2} ms")));
    let what = |p| format!("`start` to the durable answer, {p} of {SINGLE}, beside as many `fdatasync`");
    report.add(Row::at_most(what("p50"), median(&starts), 1.0 + sync50, "ms"));
    report.add(Row::at_most(what("p99"), percentile(&starts, 99), 5.0 + sync99, "ms"));

    let (mut ratios, mut rates, mut accepted) = (Vec::new(), Vec::new(), 1 + SINGLE);
    for _ in 0..PAIRS {
        let single = disk.rate(ROUND)?;
        let answers = load(gateway, &start, CALLERS).await?;
        accepted += answers;
        rates.push(answers as f64 / ROUND.as_secs_f64());
        ratios.push(rates[rates.len() - 1] / single);
    }
    let what = format!("`start` from {CALLERS} callers at once, times the rate of single `fdatasync`");
    report.add(Row::at_least(what, median(&ratios), 10.0, "×").beside(&format!("{:.0} a second", median(&rates))));

    let status = request(gateway, "GET", &format!("/system/api/v1/build/status?id={id}"), "");
    let mut rates = Vec::new();
    for _ in 0..PAIRS {
        rates.push(load(gateway, &status, STATUS_CALLERS).await? as f64 / ROUND.as_secs_f64());
    }
    let what = format!("`status` requests from {STATUS_CALLERS} callers");
    report.add(Row::at_least(what, median(&rates), 2000.0, "a second"));
    Ok(accepted)
}

/// How many answers `callers` get within a round, each asking again as soon as it has one.
async fn load(gateway: &Gateway, request: &[u8], callers: usize) -> Result<usize> {
    let mut wires = Vec::with_capacity(callers);
    for _ in 0..callers {
        wires.push(Wire::connect(&gateway.address).await?);
    }
    let end = Instant::now() + ROUND;
    let mut tasks = JoinSet::new();
    for mut wire in wires {
        let request = request.to_vec();
        tasks.spawn(async move {
            let mut answers = 0;
            while Instant::now() < end {
                wire.send(&request).await?;
                answers += 1;
            }
            Ok::<_, std::io::Error>(answers)
        });
    }
    let mut answers = 0;
    while let Some(ended) = tasks.join_next().await {
        answers += ended??;
    }
    Ok(answers)
}

fn start_request(gateway: &Gateway) -> Vec<u8> {
    let body = json!({
        "source": "docker.io/library/python:3.13",
        "target": format!("{OWNER}:accepted"),
        "kind": "python",
        "file": BASE64_STANDARD.encode("requests==2.32.3\nhumanize==4.9.0\n"),
    });
    request(gateway, "POST", "/system/api/v1/build/start", &body.to_string())
}
