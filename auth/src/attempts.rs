//! How often an address may fail to prove who calls, and how many lines of the log that takes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use moka::sync::Cache;

use crate::{
    Origin, audit,
    rate::{Bucket, Exceeded, PerKey, Rate},
};

/// Failed attempts by address; an IPv6 caller is a /64.
///
/// A credential that can't be used, that nobody knows or that is rejected is a failure, and so is one
/// about which the provider can't say: questions without an answer cost it most. That somebody shows
/// none isn't: it costs no question and can't be a guess.
pub struct Attempts {
    failures: PerKey<(IpAddr, Option<Arc<str>>)>,
    proved: Cache<(IpAddr, Arc<str>), ()>,
    lines: Arc<Bucket>,
}

/// For how long a name is remembered at an address, and how many are.
const PROVED_FOR: Duration = Duration::from_secs(600);
const PROVED_AT_MOST: u64 = 16 * 1024;

/// Lines about failures, from all addresses together: a flood that comes from everywhere mustn't fill
/// the log either. One address alone meets its own bound first.
const LINES: Rate = Rate::of(600, 1_200);

/// One address's failures, for whoever proves callers: the layer, or a door whose bodies are signed.
pub struct Caller {
    origin: Option<Origin>,
    failures: Arc<Bucket>,
    lines: Arc<Bucket>,
}

impl Attempts {
    /// Lets each address fail so often.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let proved = Cache::builder().max_capacity(PROVED_AT_MOST).time_to_live(PROVED_FOR).build();
        Self { failures: PerKey::new("failures", rate), proved, lines: Arc::new(Bucket::new("lines", LINES)) }
    }

    /// Another rate from now on; one that differs forgives what has failed.
    pub fn set(&self, rate: Rate) {
        self.failures.set(rate);
    }

    /// The caller at this place. Those of nowhere are one caller.
    #[must_use]
    pub fn of(&self, origin: Option<Origin>) -> Caller {
        self.caller(origin, None)
    }

    /// The caller at this place who says that they are `name`, for a door whose callers do so before they
    /// prove it. Where somebody of that name has proved it lately, the failures of others at the same
    /// address, a proxy perhaps, aren't theirs.
    #[must_use]
    pub fn of_named(&self, origin: Origin, name: &str) -> Caller {
        let name = Arc::from(name);
        let known = self.proved.contains_key(&(origin.network(), Arc::clone(&name)));
        self.caller(Some(origin), known.then_some(name))
    }

    /// Notes that the caller at this place has proved to be `name`.
    pub fn proved(&self, origin: Origin, name: &str) {
        self.proved.insert((origin.network(), Arc::from(name)), ());
    }

    fn caller(&self, origin: Option<Origin>, name: Option<Arc<str>>) -> Caller {
        let address = origin.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Origin::network);
        Caller { origin, failures: self.failures.bucket((address, name)), lines: Arc::clone(&self.lines) }
    }
}

impl Caller {
    /// Whether one more attempt may be made.
    ///
    /// # Errors
    /// When too many have failed; says when to come back.
    pub fn may_try(&self) -> Result<(), Exceeded> {
        self.failures.peek().inspect_err(|_| self.say_no_more())
    }

    /// Notes a failure and why.
    ///
    /// Those that come side by side may be more than are left, by as many as may ask a provider at
    /// once: whether an attempt fails is known at its end only.
    pub fn failed(&self, reason: &str) {
        match self.failures.take() {
            Ok(_) => self.line(reason),
            Err(_) => self.say_no_more(),
        }
    }

    /// Notes that the provider couldn't say. An outage is told of once for each address, not for
    /// each request.
    pub(crate) fn unanswered(&self, reason: &str) {
        // Whether there was one left shows with the next attempt.
        let _ = self.failures.take();
        if self.failures.may_say() {
            self.line(reason);
        }
    }

    fn say_no_more(&self) {
        if self.failures.may_say() {
            self.line("too many failed attempts; further ones from this address aren't logged for a minute");
        }
    }

    fn line(&self, reason: &str) {
        let line = |reason| audit::Line::of("authenticate", "unknown").from(self.origin).reason(&reason).refused();
        if self.lines.take().is_ok() {
            line(reason);
        } else if self.lines.may_say() {
            line("too many failed attempts from everywhere; not all of them are logged for a minute");
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("failures", &self.failures).finish_non_exhaustive()
    }
}
