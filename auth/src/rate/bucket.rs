//! One caller's bucket: governor counts, the marks beside it remember what has been said.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::{Exceeded, Rate, Standing};

/// At most so often a caller's refusals make a line of the log.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(60);

/// How much of a rate is left to one caller. The clock is the system's: governor's own asks the processor for its
/// features each time it is made, and a virtual machine answers that slowly.
pub(crate) struct Bucket<C: Clock = MonotonicClock> {
    name: &'static str,
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
    clock: C,
    marks: Mutex<Marks<C::Instant>>,
}

struct Marks<I> {
    /// The last one was taken, and until then there is no other.
    empty_until: Option<I>,
    /// Refusals were spoken of, and until then aren't again.
    quiet_until: Option<I>,
}

impl Bucket {
    pub(crate) fn new(name: &'static str, rate: Rate) -> Self {
        Self::on(name, rate, MonotonicClock)
    }
}

impl<C: Clock + Clone> Bucket<C> {
    fn on(name: &'static str, rate: Rate, clock: C) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), clock.clone()).with_middleware();
        Self { name, rate, limiter, clock, marks: Mutex::new(Marks { empty_until: None, quiet_until: None }) }
    }

    /// Takes one, and says how many are left.
    pub(crate) fn take(&self) -> Result<Standing, Exceeded> {
        match self.limiter.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                if remaining == 0 {
                    self.marks().empty_until = Some(self.clock.now() + self.rate.interval().into());
                }
                Ok(self.standing(remaining))
            }
            Err(not_until) => Err(self.exceeded(not_until.wait_time_from(self.clock.now()))),
        }
    }

    /// Whether there is one to take, without taking it.
    pub(crate) fn peek(&self) -> Result<(), Exceeded> {
        let mut marks = self.marks();
        let now = self.clock.now();
        match marks.empty_until {
            Some(until) if until > now => Err(self.exceeded(until.duration_since(now).into())),
            _ => {
                marks.empty_until = None;
                Ok(())
            }
        }
    }

    /// Whether a refusal may be spoken of: true once in [`SAY_EVERY`].
    pub(crate) fn may_say(&self) -> bool {
        let mut marks = self.marks();
        let now = self.clock.now();
        let quiet = marks.quiet_until.is_some_and(|until| until > now);
        if !quiet {
            marks.quiet_until = Some(now + SAY_EVERY.into());
        }
        !quiet
    }

    fn standing(&self, remaining: u32) -> Standing {
        Standing::new(self.name, self.rate, remaining)
    }

    fn exceeded(&self, wait: Duration) -> Exceeded {
        Exceeded::new(self.standing(0), wait)
    }

    fn marks(&self) -> MutexGuard<'_, Marks<C::Instant>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    /// Two at once, and one more each second.
    fn bucket() -> (Bucket<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Bucket::on("test", Rate::of(60, 2), clock.clone()), clock)
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_at_a_time() {
        let (bucket, clock) = bucket();
        let left = |bucket: &Bucket<FakeRelativeClock>| bucket.take().ok().map(|standing| standing.remaining());
        assert_eq!([left(&bucket), left(&bucket), left(&bucket)], [Some(1), Some(0), None]);
        clock.advance(Duration::from_secs(1));
        assert_eq!([left(&bucket), left(&bucket)], [Some(0), None]);
        clock.advance(Duration::from_secs(60));
        assert_eq!([left(&bucket), left(&bucket), left(&bucket)], [Some(1), Some(0), None]);
    }

    #[test]
    fn a_look_takes_nothing_and_sees_the_last_one_gone() {
        let (bucket, clock) = bucket();
        for _ in 0..10 {
            assert!(bucket.peek().is_ok());
        }
        assert!(bucket.take().is_ok() && bucket.peek().is_ok() && bucket.take().is_ok());
        assert!(bucket.peek().is_err());
        clock.advance(Duration::from_millis(999));
        assert!(bucket.peek().is_err());
        clock.advance(Duration::from_millis(1));
        assert!(bucket.peek().is_ok() && bucket.take().is_ok() && bucket.peek().is_err());
    }

    #[test]
    fn refusals_are_spoken_of_once_a_minute() {
        let (bucket, clock) = bucket();
        assert!(bucket.may_say() && !bucket.may_say());
        clock.advance(SAY_EVERY);
        assert!(bucket.may_say() && !bucket.may_say());
    }
}
