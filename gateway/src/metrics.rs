//! What operators see: counters and histograms without a global registry, no label grows with users.

use std::{fmt, sync::Arc, time::Duration};

use kiln_backends::Failure;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::ledger::State;

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    accepted: Counter,
    ended: Family<Outcome, Counter>,
    queue_wait: Histogram,
    first_event: Histogram,
    duration: Histogram,
    running: Gauge,
    engine_up: Gauge,
    requests: Family<Answer, Counter>,
    deliveries: Family<Delivery, Counter>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Outcome {
    state: &'static str,
    reason: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Answer {
    door: &'static str,
    status: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Delivery {
    outcome: &'static str,
}

/// Counts a running build until dropped.
#[derive(Debug)]
pub struct RunningBuild(Metrics);

impl Metrics {
    /// Fresh metrics, all zero.
    #[must_use]
    pub fn new() -> Self {
        // Milliseconds to the hour: builds take seconds to minutes, waits anything.
        let seconds = || Histogram::new([0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0]);
        let inner = Inner {
            registry: Registry::with_prefix("kiln"),
            accepted: Counter::default(),
            ended: Family::default(),
            queue_wait: seconds(),
            first_event: seconds(),
            duration: seconds(),
            running: Gauge::default(),
            engine_up: Gauge::default(),
            requests: Family::default(),
            deliveries: Family::default(),
        };
        Self(Arc::new(inner.registered()))
    }

    /// A build was accepted.
    pub fn accepted(&self) {
        self.0.accepted.inc();
    }

    /// A build ended.
    pub fn ended(&self, state: State, failure: Option<&Failure>) {
        let reason = failure.map(|failure| failure.reason.to_string()).unwrap_or_default();
        self.0.ended.get_or_create(&Outcome { state: state.as_str(), reason }).inc();
    }

    /// A build left the queue after waiting so long.
    #[must_use]
    pub fn started(&self, waited: Duration) -> RunningBuild {
        self.0.queue_wait.observe(waited.as_secs_f64());
        self.0.running.inc();
        RunningBuild(self.clone())
    }

    /// The first event of an attempt came so long after its start.
    pub fn first_event(&self, after: Duration) {
        self.0.first_event.observe(after.as_secs_f64());
    }

    /// An attempt took so long on its engine.
    pub fn attempt_took(&self, long: Duration) {
        self.0.duration.observe(long.as_secs_f64());
    }

    /// The engine answers, or not.
    pub fn engine(&self, up: bool) {
        self.0.engine_up.set(i64::from(up));
    }

    /// A request was answered.
    pub fn answered(&self, door: &'static str, status: u16) {
        self.0.requests.get_or_create(&Answer { door, status }).inc();
    }

    /// An attempt to deliver a webhook's message left it so.
    pub fn delivery(&self, outcome: &'static str) {
        self.0.deliveries.get_or_create(&Delivery { outcome }).inc();
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string can't fail.
        let _ = text::encode(&mut out, &self.0.registry);
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Drop for RunningBuild {
    fn drop(&mut self) {
        self.0.0.running.dec();
    }
}

impl Inner {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("builds_accepted", "Builds accepted", self.accepted.clone());
        r.register("builds_ended", "Builds ended, by state and reason", self.ended.clone());
        r.register("queue_wait_seconds", "From acceptance to the first attempt", self.queue_wait.clone());
        r.register("first_event_seconds", "From an attempt's start to its first log event", self.first_event.clone());
        r.register("attempt_seconds", "How long attempts take on the engine", self.duration.clone());
        r.register("builds_running", "Builds on the engine now", self.running.clone());
        r.register("engine_up", "1 while the engine answers and keeps the rules", self.engine_up.clone());
        r.register("requests", "Requests answered, by door and status", self.requests.clone());
        let deliveries = "Attempts to deliver webhooks' messages, by what came of them";
        r.register("webhook_attempts", deliveries, self.deliveries.clone());
        self
    }
}
