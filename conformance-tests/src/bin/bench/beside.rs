//! Builds through the gateway beside the same builds by `buildctl`, in pairs that take turns in going first.

use std::time::{Duration, Instant};

use kiln_conformance_tests::{Client, kiln::base};
use reqwest::Method;

use crate::{
    Result,
    buildctl::Buildctl,
    gateway::{Gateway, OWNER},
    report::{Report, Row},
    stats::{PAIRS, median, ms},
};

/// The base whose `/bin/extend` takes five seconds; `bases/slow` of the registry.
const SLOW: &str = "slow";

/// A build through the gateway, as its caller sees it.
struct Built {
    /// From the POST to the engine's first event.
    first_event: Duration,
    /// From the POST to the digest.
    took: Duration,
}

/// Measures on a gateway with an engine; returns how many builds it has made.
pub(crate) async fn measure(gateway: &Gateway, report: &mut Report) -> Result<usize> {
    let client = Client::new(&format!("http://{}", gateway.address), Some(&gateway.token));
    let buildctl = Buildctl::extending(&format!("bases/{SLOW}")).await?;
    let nonce = uuid::Uuid::new_v4().simple().to_string();

    // Both caches are filled first: the gateway's steps are salted by owner.
    let cached = format!("cached-{nonce}");
    build(&client, &cached).await?;
    buildctl.build(&cached).await?;
    let pairs = pairs(&client, &buildctl, |_| cached.clone()).await?;
    let more: Vec<f64> = pairs.iter().map(|(ours, theirs)| ms(ours.took) - ms(*theirs)).collect();
    let both = medians(&pairs, 1e3, "ms");
    report.add(Row::at_most("Fully cached build, more than `buildctl` takes", median(&more), 25.0, "ms").beside(&both));
    let first: Vec<f64> = pairs.iter().map(|(ours, _)| ms(ours.first_event)).collect();
    report.add(Row::at_most(
        "The engine's first log event at its follower, after the POST",
        median(&first),
        100.0,
        "ms",
    ));

    let pairs = self::pairs(&client, &buildctl, |run| format!("{run}-{nonce}")).await?;
    let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours.took.as_secs_f64() / theirs.as_secs_f64()).collect();
    let both = medians(&pairs, 1.0, "s");
    report.add(
        Row::at_most("Build with a step of five seconds, over `buildctl`", median(&ratios), 1.05, "×").beside(&both),
    );
    Ok(1 + 2 * PAIRS)
}

async fn pairs(
    client: &Client,
    buildctl: &Buildctl,
    requirements: impl Fn(usize) -> String,
) -> Result<Vec<(Built, Duration)>> {
    let mut pairs = Vec::with_capacity(PAIRS);
    for pair in 0..PAIRS {
        let (ours, theirs) = (requirements(2 * pair), requirements(2 * pair + 1));
        pairs.push(if pair % 2 == 0 {
            (build(client, &ours).await?, buildctl.build(&theirs).await?)
        } else {
            let theirs = buildctl.build(&theirs).await?;
            (build(client, &ours).await?, theirs)
        });
    }
    Ok(pairs)
}

/// The medians of both sides, for people.
fn medians(pairs: &[(Built, Duration)], scale: f64, unit: &str) -> String {
    let of = |time: fn(&(Built, Duration)) -> Duration| {
        median(&pairs.iter().map(|pair| time(pair).as_secs_f64() * scale).collect::<Vec<_>>())
    };
    format!("{:.2} {unit} beside {:.2} {unit}", of(|(ours, _)| ours.took), of(|(_, theirs)| *theirs))
}

/// Sends a build, follows its log to the end, and asks for the digest.
async fn build(client: &Client, requirements: &str) -> Result<Built> {
    let began = Instant::now();
    let id = client.start(&base(SLOW), &format!("{OWNER}:kiln"), "python", Some(requirements)).await;
    let mut log = client.request(Method::GET, &format!("/v1/builds/{id}/log?follow=true")).send().await?;
    let (mut text, mut first_event) = (String::new(), None);
    while !text.contains("event: end\n") {
        let Some(chunk) = log.chunk().await? else { break };
        text.push_str(&String::from_utf8_lossy(&chunk));
        if first_event.is_none() && text.contains("event: step\n") {
            first_event = Some(began.elapsed());
        }
    }
    let digest = client.build(&id).await["digest"].is_string();
    let took = began.elapsed();
    if !digest {
        return Err(format!("the build was not pushed: {text}").into());
    }
    Ok(Built { first_event: first_event.ok_or("no event of the engine")?, took })
}
