//! What an engine says, on its way to the log.

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;
use kiln_backends::{BuildId, Event, EventKind, Stream};
use tokio::sync::mpsc;

use super::redact::Redactor;
use crate::{
    log::{Logs, RecordKind, Writer},
    metrics::Metrics,
    recipes::extend,
};

/// A log that is opened when there is something to write, and again if it couldn't be.
pub(super) struct Log {
    logs: Logs,
    id: BuildId,
    writer: Option<Writer>,
}

impl Log {
    pub(super) fn new(logs: Logs, id: BuildId) -> Self {
        Self { logs, id, writer: None }
    }

    async fn write(&mut self, records: &[(RecordKind, u32, Bytes)]) -> io::Result<()> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.logs.append(self.id).await?,
        };
        self.writer.insert(writer).write(records).await
    }
}

/// Writes what the engine says to the log, in as few writes as it comes; returns the extender that
/// the step named.
pub(super) async fn record(
    mut log: Log,
    mut events: mpsc::Receiver<Event>,
    number: u32,
    begun: Instant,
    metrics: Metrics,
    redactor: Arc<Redactor>,
) -> Option<String> {
    /// Events in one write.
    const AT_ONCE: usize = 128;
    let mut extender = None;
    let mut group = Vec::with_capacity(AT_ONCE);
    let mut records = vec![(RecordKind::Attempt, 0, Bytes::from(number.to_string()))];
    let mut first = true;
    loop {
        if let Err(error) = log.write(&records).await {
            tracing::error!(%error, "a log was not written; the build goes on without");
        }
        records.clear();
        if events.recv_many(&mut group, AT_ONCE).await == 0 {
            return extender;
        }
        if std::mem::take(&mut first) {
            metrics.first_event(begun.elapsed());
        }
        for event in group.drain(..) {
            let record = in_log(event.kind, &redactor);
            if extender.is_none() && record.0 == RecordKind::Stdout {
                extender = marked(&record.2);
            }
            records.push(record);
        }
    }
}

/// The extender, where a step's output begins with the scripts' first line.
fn marked(output: &[u8]) -> Option<String> {
    let line = output.split(|byte| *byte == b'\n').next()?;
    extend::extender(std::str::from_utf8(line).ok()?).map(str::to_owned)
}

fn in_log(kind: EventKind, redactor: &Redactor) -> (RecordKind, u32, Bytes) {
    match kind {
        EventKind::StepStarted { step, name } => (RecordKind::Step, step, redactor.text(&name).into()),
        EventKind::StepFinished { step, error: Some(error), .. } => {
            (RecordKind::StepFailed, step, redactor.text(&error).into())
        }
        EventKind::StepFinished { step, cached: true, .. } => (RecordKind::StepCached, step, Bytes::new()),
        EventKind::StepFinished { step, .. } => (RecordKind::StepDone, step, Bytes::new()),
        EventKind::Output { step, stream: Stream::Stdout, bytes } => (RecordKind::Stdout, step, redactor.bytes(bytes)),
        EventKind::Output { step, stream: Stream::Stderr, bytes } => (RecordKind::Stderr, step, redactor.bytes(bytes)),
        EventKind::Clipped { step } => (RecordKind::Clipped, step, Bytes::from_static(b"the engine left out output")),
        EventKind::Note { text } => (RecordKind::Note, 0, redactor.text(&text).into()),
        EventKind::Warning { text } => (RecordKind::Warning, 0, redactor.text(&text).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_shows_in_no_kind_of_record() {
        let said = || "echo https://alice:S3cretPW@h".to_owned();
        let bytes = || Bytes::from(said());
        for kind in [
            EventKind::StepStarted { step: 1, name: said() },
            EventKind::StepFinished { step: 1, cached: false, error: Some(said()) },
            EventKind::Output { step: 1, stream: Stream::Stdout, bytes: bytes() },
            EventKind::Output { step: 1, stream: Stream::Stderr, bytes: bytes() },
            EventKind::Note { text: said() },
            EventKind::Warning { text: said() },
        ] {
            let (record, _, text) = in_log(kind, &Redactor::default());
            assert_eq!(text, "echo https://alice:***@h", "{record:?}");
        }
    }
}
