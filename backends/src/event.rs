//! What an engine tells about a running attempt, and the bounded way it takes.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

/// How many events may wait for the log; a slow disk then slows the engine's status stream.
const WAITING_EVENTS: usize = 256;

/// Something that happened during an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, by the engine's clock where it tells.
    pub time: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// The kinds of events. Steps are numbered from 1 in the order in which they were first seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// A step began; comes once for each step.
    StepStarted {
        /// The step's number.
        step: u32,
        /// Its name, as the engine shows it.
        name: String,
    },
    /// A step ended; comes once for each step that began.
    StepFinished {
        /// The step's number.
        step: u32,
        /// Whether its result was taken from the cache.
        cached: bool,
        /// Why it failed.
        error: Option<String>,
    },
    /// Bytes that a step wrote; they may end within a line or a character.
    Output {
        /// The step's number.
        step: u32,
        /// Where it wrote them.
        stream: Stream,
        /// The bytes.
        bytes: Bytes,
    },
    /// The engine stopped showing a step's output because there was too much of it.
    Clipped {
        /// The step's number.
        step: u32,
    },
    /// Something that was done for the build outside its steps.
    Note {
        /// One sentence.
        text: String,
    },
    /// Something the caller should know that isn't an error.
    Warning {
        /// One sentence.
        text: String,
    },
}

/// Where a step wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The sending end: waits while the log is behind, and never drops an event.
#[derive(Clone, Debug)]
pub struct EventSink(mpsc::Sender<Event>);

impl EventSink {
    /// A sink and what comes out of it.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
        (Self(sender), receiver)
    }

    /// Hands over one event. Nobody listening is no error: the attempt goes on.
    pub async fn send(&self, event: Event) {
        let _ = self.0.send(event).await;
    }

    /// Hands over something that happened now.
    pub async fn emit(&self, kind: EventKind) {
        self.send(Event { time: SystemTime::now(), kind }).await;
    }
}
