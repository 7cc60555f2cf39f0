//! What tokens cost that nobody has seen: one that is good, shown by many at once, and a million that aren't.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
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
};

use crate::{
    Result,
    gateway::{Gateway, request_as},
    memory,
    pace::Pace,
    report::{Report, Row},
    stats::{median, percentile},
    wire::Wire,
};

/// Callers who come with the same new token at once.
const TOGETHER: usize = 1000;
/// Bad tokens, each from an address of its own, and who sends them.
const BAD: usize = 1_000_000;
const SENDERS: usize = 16;
/// Bad tokens a second while a valid caller is timed; the machine's cores are the senders' too.
const FLOOD: u32 = 2_000;
/// Rounds of each valid caller, the requests of one, and the time between two of them.
const ROUNDS: usize = 9;
const VALID: usize = 300;
const BETWEEN: Duration = Duration::from_millis(5);
/// Bad tokens come from addresses of their own.
const BEHIND_A_PROXY: &str = "[\"127.0.0.1/32\"]";
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

/// What a million bad tokens, each from an address of its own, leave behind; and what a valid caller notices, beside
/// one of a gateway that never saw any. The two take turns: a machine's own pace changes within minutes.
pub(crate) async fn flood(report: &mut Report) -> Result<()> {
    let start = || Gateway::start(Launch::on(Engine::Buildkitd).set("KILN_LIMITS__TRUSTED_PROXIES", BEHIND_A_PROXY));
    let (spared, flooded) = (start().await?, Arc::new(start().await?));
    let memory = memory::resident(flooded.pid())?;
    let mut during = Beside::default();
    for round in 0..ROUNDS {
        during.spared.extend(valid(&spared).await?);
        during.flooded.extend(while_bad_ones_come(&flooded, round).await?);
    }
    let mut senders = flooding(&flooded).await?;
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    let grown = memory::resident(flooded.pid())? - memory;
    let mut after = Beside::default();
    for _ in 0..ROUNDS {
        after.spared.extend(valid(&spared).await?);
        after.flooded.extend(valid(&flooded).await?);
    }
    let what = format!("Memory, growth by {BAD} bad tokens, each from an address of its own");
    report.add(Row::at_most(what, grown, 16.0, "MiB"));
    report.add(during.row(format!("A valid caller's p99 while {FLOOD} bad tokens a second come, over one without")));
    report.add(after.row(format!("and after {BAD} of them")));
    Ok(())
}

/// The times of valid callers, ms.
#[derive(Default)]
struct Beside {
    spared: Vec<f64>,
    flooded: Vec<f64>,
}

impl Beside {
    fn row(&self, what: String) -> Row {
        let p99 = |times: &[f64]| percentile(times, 99);
        let (flooded, spared) = (p99(&self.flooded), p99(&self.spared));
        let seen = format!("{flooded:.2} ms beside {spared:.2} ms; p50 {:.2} ms", median(&self.flooded));
        Row::at_most(what, flooded / spared, 1.5, "×").beside(&seen)
    }
}

/// The times of a valid caller while bad tokens come at even times.
async fn while_bad_ones_come(gateway: &Arc<Gateway>, round: usize) -> Result<Vec<f64>> {
    let pace = Pace { connections: SENDERS, every: Duration::from_secs(1) / FLOOD, count: BAD };
    let (flooded, over) = (Arc::clone(gateway), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&over);
    let flood = tokio::spawn(async move {
        let bad = Arc::clone(&flooded);
        // Others than those of any other round, and than those that are sent as fast as can be.
        pace.run(&flooded.address, 401, move |number| bad_token(&bad, BAD * (round + 1) + number), stop).await
    });
    let times = valid(gateway).await;
    over.store(true, Ordering::Relaxed);
    let flood = flood.await??;
    // A flood that dries up would be none.
    if flood.rate < f64::from(FLOOD) * 0.95 {
        return Err(format!("only {:.0} bad tokens a second", flood.rate).into());
    }
    times
}

/// Sends the bad tokens, as fast as they are answered.
async fn flooding(gateway: &Arc<Gateway>) -> Result<JoinSet<std::io::Result<()>>> {
    let (sent, mut senders) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..SENDERS {
        let (gateway, sent) = (Arc::clone(gateway), Arc::clone(&sent));
        let mut wire = Wire::connect(&gateway.address).await?;
        senders.spawn(async move {
            loop {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                if number >= BAD {
                    return Ok(());
                }
                let (status, body) = wire.exchange(&bad_token(&gateway, number)).await?;
                if status != 401 {
                    return Err(std::io::Error::other(format!("{status} {body}")));
                }
            }
        });
    }
    Ok(senders)
}

/// A request with a token that is nobody's, from an address of its own.
fn bad_token(gateway: &Gateway, number: usize) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    let from = format!("x-forwarded-for: 11.{a}.{b}.{c}\r\n");
    let token = format!("00000000-0000-4000-8000-{number:012}:of-nobody");
    request_as(&token, gateway, "GET", QUESTION, &from)
}

/// The times of a valid caller, ms.
async fn valid(gateway: &Gateway) -> Result<Vec<f64>> {
    let ask = request_as(&gateway.token, gateway, "GET", QUESTION, "");
    let pace = Pace { connections: 1, every: BETWEEN, count: VALID };
    Ok(pace.run(&gateway.address, 200, move |_| ask.clone(), Arc::default()).await?.times)
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
