//! What stands before every handler, with an identity that is known: beside a bare hyper server in the same run.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Result,
    echo::Echo,
    gateway::{Gateway, request},
    pace::{Pace, Paced},
    report::{Report, Row},
    stats::{PAIRS, median, ms, percentile},
    wire::Wire,
};

/// Single requests, each beside one to the other server.
const SINGLE: usize = PAIRS * 500;
/// Callers at once, what is to be answered in a second, and what they ask for, a little more.
const CALLERS: usize = 100;
const RATE: u32 = 5_000;
const ASKED: u32 = 5_050;
/// Requests of each caller in a round.
const REQUESTS: usize = 100;
/// The cheapest question that needs an identity: its handler looks nothing up.
const QUESTION: &str = "/system/api/v1/build/capabilities";

pub(crate) async fn measure(gateway: &Gateway, report: &mut Report) -> Result<()> {
    let echo = Echo::start()?;
    let ask = request(gateway, "GET", QUESTION, "");
    let (mut bare, mut whole) = (Wire::connect(&echo.address).await?, Wire::connect(&gateway.address).await?);
    let (mut bares, mut wholes) = (Vec::with_capacity(SINGLE), Vec::with_capacity(SINGLE));
    for _ in 0..SINGLE {
        for (wire, times) in [(&mut bare, &mut bares), (&mut whole, &mut wholes)] {
            let began = Instant::now();
            wire.send(&ask).await?;
            times.push(ms(began.elapsed()));
        }
    }
    let more = median(&wholes) - median(&bares);
    let both = format!("{:.3} ms beside {:.3} ms", median(&wholes), median(&bares));
    let what = format!("A request through the whole stack, identity known, p50 of {SINGLE} beyond a bare hyper echo");
    report.add(Row::at_most(what, more, 0.15, "ms").beside(&both));

    let (mut ratios, mut rates, mut both) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    for _ in 0..PAIRS {
        let (bare, whole) = (paced(&echo.address, &ask).await?, paced(&gateway.address, &ask).await?);
        rates.push(whole.rate);
        let (bare, whole) = (percentile(&bare.times, 99), percentile(&whole.times, 99));
        ratios.push(whole / bare);
        both.0.push(whole);
        both.1.push(bare);
    }
    let what = format!("Requests answered, {CALLERS} callers asking for {ASKED} a second");
    report.add(Row::at_least(what, median(&rates), f64::from(RATE), "a second"));
    let both = format!("{:.2} ms beside {:.2} ms", median(&both.0), median(&both.1));
    report.add(Row::at_most("Their p99, over the echo's", median(&ratios), 2.0, "×").beside(&both));
    Ok(())
}

/// Every caller asks at even times, each in the middle of nobody else's, whether or not others are answered.
async fn paced(address: &str, ask: &[u8]) -> io::Result<Paced> {
    let pace = Pace { connections: CALLERS, every: Duration::from_secs(1) / ASKED, count: CALLERS * REQUESTS };
    let (ask, never) = (ask.to_vec(), Arc::default());
    pace.run(address, 200, move |_| ask.clone(), never).await
}
