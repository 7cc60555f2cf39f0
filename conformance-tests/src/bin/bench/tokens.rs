//! What tokens cost that nobody has seen: one that is good, shown by many at once, and a million that aren't.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kiln_conformance_tests::{
    Engine, Launch,
    couchdb::{User, on_couchdb},
    engine,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Barrier,
    task::JoinSet,
    time,
};

use crate::{
    Result,
    gateway::{Gateway, request_as},
    memory,
    report::{Report, Row},
    stats::{median, ms, percentile},
    wire::Wire,
};

/// Callers who come with the same new token at once.
const TOGETHER: usize = 1000;
/// Bad tokens, each from an address of its own, and who sends them.
const BAD: usize = 1_000_000;
const SENDERS: u32 = 16;
/// Bad tokens a second while a valid caller is timed; the machine's cores are the senders' too.
const FLOOD: u32 = 2_000;
/// Requests of the valid caller in a round, and the time between two.
const VALID: usize = 1_000;
const BETWEEN: Duration = Duration::from_millis(5);
const QUESTION: &str = "/system/api/v1/build/capabilities";

/// How many questions a CouchDB is asked for a token that is new.
pub(crate) async fn cold(report: &mut Report) -> Result<()> {
    let (address, questions) = counted(engine("KILN_TEST_COUCHDB")).await?;
    let launch = on_couchdb(Launch::on(Engine::Buildkitd)).unset("KILN_IDENTITY__USERS_FILE");
    let (host, port) = address.rsplit_once(':').ok_or("no port")?;
    let launch = launch.set("COUCHDB_SERVICE_HOST", host).set("COUCHDB_SERVICE_PORT", port);
    let gateway = Gateway::start(launch).await?;
    let one = User::new().await;
    let mut wire = Wire::connect(&gateway.address).await?;
    wire.send(&request_as(&one.token, &gateway, "GET", QUESTION, "")).await?;
    let single = questions.swap(0, Ordering::Relaxed);
    report.add(Row::at_most("Questions to CouchDB for a token that is new", single as f64, 2.0, ""));

    let ask = request_as(&User::new().await.token, &gateway, "GET", QUESTION, "");
    let together = Arc::new(Barrier::new(TOGETHER));
    let mut callers = JoinSet::new();
    for _ in 0..TOGETHER {
        let mut wire = Wire::connect(&gateway.address).await?;
        let (ask, together) = (ask.clone(), Arc::clone(&together));
        callers.spawn(async move {
            together.wait().await;
            wire.exchange(&ask).await.map(|(status, _)| status)
        });
    }
    let mut answered = 0;
    while let Some(status) = callers.join_next().await {
        answered += usize::from(status?? == 200);
    }
    let asked = questions.load(Ordering::Relaxed);
    let what = format!("Questions to CouchDB for a new token that {TOGETHER} callers show at once");
    report.add(Row::at_most(what, asked as f64, 2.0, "").beside(&format!("{answered} answered 200, the others shed")));
    Ok(())
}

/// What a million bad tokens, each from an address of its own, leave behind; and what a valid caller notices.
pub(crate) async fn flood(report: &mut Report) -> Result<()> {
    let launch = Launch::on(Engine::Buildkitd).set("KILN_LIMITS__TRUSTED_PROXIES", "[\"127.0.0.1/32\"]");
    let gateway = Arc::new(Gateway::start(launch).await?);
    let before = valid(&gateway).await?;
    let memory = memory::resident(gateway.pid())?;
    let sent = Arc::new(AtomicUsize::new(0));
    let paced = Duration::from_secs(1) * SENDERS / FLOOD;
    let mut senders = flooding(&gateway, &sent, paced).await?;
    let during = valid(&gateway).await?;
    senders.shutdown().await;
    let mut senders = flooding(&gateway, &sent, Duration::ZERO).await?;
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    let grown = memory::resident(gateway.pid())? - memory;
    let after = valid(&gateway).await?;
    report.add(Row::at_most(
        format!("Memory, growth by {BAD} bad tokens, each from an address of its own"),
        grown,
        16.0,
        "MiB",
    ));
    let p99 = |times: &[f64]| percentile(times, 99);
    let both =
        |times: &[f64]| format!("{:.2} ms beside {:.2} ms; p50 {:.2} ms", p99(times), p99(&before), median(times));
    let what = format!("A valid caller's p99 while {FLOOD} bad tokens a second come, over before");
    report.add(Row::at_most(what, p99(&during) / p99(&before), 1.5, "×").beside(&both(&during)));
    report.add(
        Row::at_most("and after all of them, over before", p99(&after) / p99(&before), 1.5, "×").beside(&both(&after)),
    );
    Ok(())
}

/// Sends bad tokens, one in `between` from each sender, until `BAD` are sent.
async fn flooding(
    gateway: &Arc<Gateway>,
    sent: &Arc<AtomicUsize>,
    between: Duration,
) -> Result<JoinSet<std::io::Result<()>>> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (gateway, sent) = (Arc::clone(gateway), Arc::clone(sent));
        let mut wire = Wire::connect(&gateway.address).await?;
        // One after the other: all at once would be a burst and a pause.
        let first = time::Instant::now() + between * sender / SENDERS;
        senders.spawn(async move {
            let mut ticks = time::interval_at(first, between.max(Duration::from_nanos(1)));
            loop {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                if number >= BAD {
                    return Ok(());
                }
                if !between.is_zero() {
                    ticks.tick().await;
                }
                let [_, a, b, c] = u32::try_from(number).unwrap_or_default().to_be_bytes();
                let from = format!("x-forwarded-for: 11.{a}.{b}.{c}\r\n");
                let token = format!("00000000-0000-4000-8000-{number:012}:of-nobody");
                let (status, body) = wire.exchange(&request_as(&token, &gateway, "GET", QUESTION, &from)).await?;
                if status != 401 {
                    return Err(std::io::Error::other(format!("{status} {body}")));
                }
            }
        });
    }
    Ok(senders)
}

/// The times of a valid caller, ms.
async fn valid(gateway: &Gateway) -> Result<Vec<f64>> {
    let ask = request_as(&gateway.token, gateway, "GET", QUESTION, "");
    let mut wire = Wire::connect(&gateway.address).await?;
    let mut ticks = time::interval(BETWEEN);
    let mut times = Vec::with_capacity(VALID);
    for _ in 0..VALID {
        ticks.tick().await;
        let began = Instant::now();
        wire.send(&ask).await?;
        times.push(ms(began.elapsed()));
    }
    Ok(times)
}

/// A way to the server at `url` on which the questions are counted.
async fn counted(url: String) -> Result<(String, Arc<AtomicUsize>)> {
    let server = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let questions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&questions);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass(near, server.clone(), Arc::clone(&counter)));
        }
    });
    Ok((address, questions))
}

async fn pass(near: TcpStream, server: String, questions: Arc<AtomicUsize>) -> std::io::Result<()> {
    let far = TcpStream::connect(server).await?;
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_far, &mut to_near).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from_near.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        // A question is small and is written at once, so its first line isn't cut.
        let lines = buffer[..read].windows(5).filter(|window| window == b"POST ").count();
        questions.fetch_add(lines, Ordering::Relaxed);
        to_far.write_all(&buffer[..read]).await?;
    }
}
