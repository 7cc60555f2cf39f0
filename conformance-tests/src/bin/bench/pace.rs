//! Requests at even times, by a thread of their own: the runtime's timers tick by the millisecond, and five thousand
//! requests a second would go out five at once.

use std::{
    io::{self, Write as _},
    net,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};

use crate::{stats::ms, wire::Wire};

/// Requests of one connection that may wait for their answers.
const UNANSWERED: usize = 1000;

/// How long the last answers may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// How many requests go out, how far apart, over how many connections in turn.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) connections: usize,
    pub(crate) every: Duration,
    pub(crate) count: usize,
}

/// What became of the requests.
pub(crate) struct Paced {
    /// From each one's sending to its answer, ms.
    pub(crate) times: Vec<f64>,
    /// Answers a second.
    pub(crate) rate: f64,
}

impl Pace {
    /// Sends what `ask` has for each number, whether or not others are answered, until `stop` or all are sent; every
    /// answer must have this status.
    pub(crate) async fn run(
        self,
        address: &str,
        status: u16,
        ask: impl Fn(usize) -> Vec<u8> + Send + 'static,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Paced> {
        let (mut lanes, mut readers) = (Vec::with_capacity(self.connections), JoinSet::new());
        for _ in 0..self.connections {
            let stream = net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let (sent, noted) = mpsc::channel(UNANSWERED);
            let wire = Wire::over(TcpStream::from_std(stream.try_clone()?)?);
            lanes.push((stream, sent));
            readers.spawn(answers(wire, status, noted));
        }
        let began = Instant::now();
        let sender = thread::spawn(move || self.send(lanes, &ask, &stop));
        let mut times = Vec::new();
        while let Some(read) = readers.join_next().await {
            times.extend(read??);
        }
        let rate = times.len() as f64 / began.elapsed().as_secs_f64();
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        Ok(Paced { times, rate })
    }

    fn send(
        self,
        lanes: Vec<(net::TcpStream, mpsc::Sender<Instant>)>,
        ask: &dyn Fn(usize) -> Vec<u8>,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let mut due = Instant::now();
        for (number, (stream, sent)) in (0..self.count).zip(lanes.iter().cycle()) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let request = ask(number);
            pause(due.saturating_duration_since(Instant::now()));
            due += self.every;
            // A reader that has gone has said why.
            let _ = sent.blocking_send(Instant::now());
            let mut stream: &net::TcpStream = stream;
            stream.write_all(&request)?;
        }
        // A server takes the end of its caller's words for the end of their interest.
        for (stream, sent) in &lanes {
            let patience = Instant::now() + ANSWERED_WITHIN;
            while sent.capacity() < sent.max_capacity() && Instant::now() < patience {
                pause(Duration::from_millis(1));
            }
            stream.shutdown(net::Shutdown::Write)?;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the sender's thread is none of the runtime's")]
fn pause(time: Duration) {
    thread::sleep(time);
}

/// The times of a connection's answers, until its sender has none left.
async fn answers(mut wire: Wire, status: u16, mut sent: mpsc::Receiver<Instant>) -> io::Result<Vec<f64>> {
    let mut times = Vec::new();
    while let Some((got, body)) = wire.answer().await? {
        if got != status {
            return Err(io::Error::other(format!("{got} {body}")));
        }
        let sent = sent.try_recv().map_err(|_| io::Error::other("an answer without a request"))?;
        times.push(ms(sent.elapsed()));
    }
    match sent.try_recv() {
        Ok(_) => Err(io::Error::other("a request without an answer")),
        Err(_) => Ok(times),
    }
}
