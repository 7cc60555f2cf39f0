//! Folds the daemon's status stream into events: a step starts once and ends once, however often
//! the daemon repeats itself.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use bollard_buildkit_proto::{
    google::protobuf::Timestamp,
    moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexWarning},
};
use bytes::Bytes;

use super::tail::Tail;
use crate::{Event, EventKind, FailedStep, Stream};

/// What buildkitd writes into a step's output where it stops showing it.
const CLIPPED: &[u8] = b"[output clipped, log limit ";
/// Warnings that are passed on; a Dockerfile of thousands of lines may have as many.
const WARNINGS: usize = 100;

/// What is known about the attempt's steps.
#[derive(Debug, Default)]
pub(super) struct Fold {
    steps: HashMap<String, Step>,
    count: u32,
    warnings: HashSet<String>,
}

#[derive(Debug)]
struct Step {
    number: u32,
    name: String,
    state: State,
    clipped: bool,
    error: Option<String>,
    tail: Tail,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Running,
    /// Completed, but without inputs: a source is resolved first and then begins again to be fetched,
    /// an export is written and then begins again to be pushed.
    Settling {
        at: SystemTime,
        cached: bool,
    },
    Finished,
}

impl Fold {
    /// The events of one message.
    pub(super) fn fold(&mut self, message: StatusResponse) -> Vec<Event> {
        let mut events = Vec::new();
        for vertex in message.vertexes {
            self.vertex(vertex, &mut events);
        }
        for log in message.logs {
            self.log(log, &mut events);
        }
        for warning in message.warnings {
            self.warning(&warning, &mut events);
        }
        events
    }

    /// Ends the steps that the daemon left open; `failed` ones are forgotten, so that another solve
    /// shows them anew.
    pub(super) fn end(&mut self) -> Vec<Event> {
        let mut open: Vec<&mut Step> = self.steps.values_mut().filter(|step| step.state != State::Finished).collect();
        open.sort_by_key(|step| step.number);
        let events = open.into_iter().map(|step| step.finish(SystemTime::now())).collect();
        self.steps.retain(|_, step| step.error.is_none());
        events
    }

    /// The step with this digest, as a failure shows it.
    pub(super) fn step(&self, digest: &str) -> Option<FailedStep> {
        self.steps.get(digest).map(Step::failed)
    }

    /// The first step that ended with an error of its own.
    pub(super) fn first_failed(&self) -> Option<FailedStep> {
        let own = |step: &&Step| step.error.as_ref().is_some_and(|error| !error.ends_with("context canceled"));
        self.steps.values().filter(own).min_by_key(|step| step.number).map(Step::failed)
    }

    fn vertex(&mut self, vertex: Vertex, events: &mut Vec<Event>) {
        let Some(started) = vertex.started else { return };
        let started = time(Some(started));
        self.settle(&vertex.digest, started, events);
        let step = self.start(&vertex.digest, &vertex.name, started, events);
        if step.state == State::Finished {
            return;
        }
        match vertex.completed {
            None => step.state = State::Running,
            Some(completed) => {
                let at = time(Some(completed));
                step.state = State::Settling { at, cached: vertex.cached };
                if !vertex.error.is_empty() {
                    step.error = Some(vertex.error);
                }
                if !vertex.inputs.is_empty() || step.error.is_some() {
                    events.push(step.finish(at));
                }
            }
        }
    }

    /// Ends what completed before another step started: a source that begins again does so at once.
    fn settle(&mut self, other: &str, started: SystemTime, events: &mut Vec<Event>) {
        let done = |step: &Step| matches!(step.state, State::Settling { at, .. } if at <= started);
        let steps = self.steps.iter_mut().filter(|(digest, step)| *digest != other && done(step));
        let mut steps: Vec<&mut Step> = steps.map(|(_, step)| step).collect();
        steps.sort_by_key(|step| step.number);
        events.extend(steps.into_iter().map(|step| step.finish(started)));
    }

    fn log(&mut self, log: VertexLog, events: &mut Vec<Event>) {
        let at = time(log.timestamp);
        let step = self.start(&log.vertex, "", at, events);
        let number = step.number;
        let mut bytes = Bytes::from(log.msg);
        let clip = bytes.windows(CLIPPED.len()).position(|window| window == CLIPPED);
        if let Some(clip) = clip {
            bytes.truncate(clip);
        }
        if !bytes.is_empty() {
            step.tail.write(&bytes);
            let stream = if log.stream == 2 { Stream::Stderr } else { Stream::Stdout };
            events.push(Event { time: at, kind: EventKind::Output { step: number, stream, bytes } });
        }
        if clip.is_some() && !step.clipped {
            step.clipped = true;
            events.push(Event { time: at, kind: EventKind::Clipped { step: number } });
        }
    }

    fn warning(&mut self, warning: &VertexWarning, events: &mut Vec<Event>) {
        let short = String::from_utf8_lossy(&warning.short);
        let line = warning.ranges.first().and_then(|range| range.start).map(|start| start.line);
        let text = match line {
            Some(line) if line > 0 => format!("Dockerfile line {line}: {short}"),
            _ => short.into_owned(),
        };
        if self.warnings.len() < WARNINGS && self.warnings.insert(text.clone()) {
            events.push(Event { time: SystemTime::now(), kind: EventKind::Warning { text } });
        }
    }

    fn start(&mut self, digest: &str, name: &str, at: SystemTime, events: &mut Vec<Event>) -> &mut Step {
        self.steps.entry(digest.to_owned()).or_insert_with(|| {
            self.count += 1;
            let (number, name) = (self.count, name.to_owned());
            events.push(Event { time: at, kind: EventKind::StepStarted { step: number, name: name.clone() } });
            Step { number, name, state: State::Running, clipped: false, error: None, tail: Tail::default() }
        })
    }
}

impl Step {
    fn finish(&mut self, now: SystemTime) -> Event {
        let (time, cached) = match self.state {
            State::Settling { at, cached } => (at, cached),
            State::Running | State::Finished => (now, false),
        };
        self.state = State::Finished;
        if self.error.is_none() {
            // Only a failure shows what was written last.
            self.tail = Tail::default();
        }
        let error = self.error.as_deref().map(super::failure::public);
        Event { time, kind: EventKind::StepFinished { step: self.number, cached, error } }
    }

    fn failed(&self) -> FailedStep {
        FailedStep { name: self.name.clone(), exit_code: None, line: None, tail: self.tail.lines() }
    }
}

fn time(at: Option<Timestamp>) -> SystemTime {
    let since_epoch = at.and_then(|at| {
        let (seconds, nanos) = (u64::try_from(at.seconds).ok()?, u32::try_from(at.nanos).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos.min(999_999_999)))
    });
    since_epoch.unwrap_or_else(SystemTime::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn vertex(digest: &str, inputs: &[&str], started: Option<i64>, completed: Option<i64>, error: &str) -> Vertex {
        Vertex {
            digest: digest.to_owned(),
            name: format!("step {digest}"),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            started: started.and_then(at),
            completed: completed.and_then(at),
            error: error.to_owned(),
            ..Vertex::default()
        }
    }

    fn log(digest: &str, msg: &[u8]) -> VertexLog {
        VertexLog { vertex: digest.to_owned(), stream: 1, msg: msg.to_vec(), timestamp: at(1) }
    }

    fn told(fold: &mut Fold, vertexes: Vec<Vertex>, logs: Vec<VertexLog>) -> Vec<String> {
        let events = fold.fold(StatusResponse { vertexes, logs, ..StatusResponse::default() });
        events.into_iter().map(|event| short(event.kind)).collect()
    }

    fn short(kind: EventKind) -> String {
        match kind {
            EventKind::StepStarted { step, .. } => format!("+{step}"),
            EventKind::StepFinished { step, error, .. } => format!("-{step}{}", error.unwrap_or_default()),
            EventKind::Output { step, bytes, .. } => format!("{step}:{}", String::from_utf8_lossy(&bytes)),
            EventKind::Clipped { step } => format!("{step}…"),
            EventKind::Warning { text } => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_step_starts_once_and_ends_once_however_often_it_is_repeated() {
        let mut fold = Fold::default();
        let run = |completed| vertex("b", &["a"], Some(10), completed, "");
        assert_eq!(told(&mut fold, vec![vertex("b", &["a"], None, None, "")], vec![]), [""; 0]);
        assert_eq!(told(&mut fold, vec![run(None), run(None)], vec![]), ["+1"]);
        assert_eq!(told(&mut fold, vec![run(Some(11))], vec![]), ["-1"]);
        assert_eq!(told(&mut fold, vec![run(None), run(Some(11))], vec![]), [""; 0]);
        assert!(fold.end().is_empty());
    }

    #[test]
    fn a_step_that_ended_and_never_began_is_passed_over() {
        let mut fold = Fold::default();
        assert_eq!(told(&mut fold, vec![vertex("b", &["a"], None, Some(11), "")], vec![]), [""; 0]);
        assert!(fold.end().is_empty());
    }

    #[test]
    fn a_source_ends_when_it_was_fetched_not_when_it_was_resolved() {
        let mut fold = Fold::default();
        let source = |started, completed| vertex("a", &[], Some(started), completed, "");
        assert_eq!(told(&mut fold, vec![source(10, Some(10))], vec![]), ["+1"]);
        assert_eq!(told(&mut fold, vec![source(10, None)], vec![]), [""; 0]);
        assert_eq!(told(&mut fold, vec![source(10, Some(10))], vec![]), [""; 0]);
        assert_eq!(told(&mut fold, vec![vertex("b", &["a"], Some(10), None, "")], vec![]), ["-1", "+2"]);
        let ended: Vec<_> = fold.end().into_iter().map(|event| short(event.kind)).collect();
        assert_eq!(ended, ["-2"]);
    }

    #[test]
    fn a_failed_step_keeps_what_it_wrote_last_and_is_told_anew_in_another_solve() {
        let mut fold = Fold::default();
        let failed = || vertex("b", &["a"], Some(1), Some(2), "exit code: 3");
        told(&mut fold, vec![vertex("b", &["a"], Some(1), None, "")], vec![log("b", b"one\ntwo\n")]);
        assert_eq!(told(&mut fold, vec![failed()], vec![]), ["-1exit code: 3"]);
        assert_eq!(fold.step("b").map(|step| step.tail), Some(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(fold.first_failed().map(|step| step.name), Some("step b".to_owned()));
        assert!(fold.end().is_empty());
        assert_eq!(told(&mut fold, vec![failed()], vec![]), ["+2", "-2exit code: 3"]);
    }

    #[test]
    fn a_clipped_output_is_an_event_instead_of_text() {
        let mut fold = Fold::default();
        let clip = b"abc\n[output clipped, log limit 2MiB reached]\n";
        assert_eq!(told(&mut fold, vec![], vec![log("b", clip), log("b", clip)]), ["+1", "1:abc\n", "1…", "1:abc\n"]);
    }
}
