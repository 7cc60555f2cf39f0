//! Timestamped signatures that were good once, so that they aren't good twice.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{CLOCK_SKEW, Signature};
use crate::UserName;

/// How many are remembered, 72 bytes each: some two hundred requests a second over their ten minutes.
const MOST: usize = 131_072;
/// How many of one user at least, however many share them: more than one a second.
const LEAST: usize = 1024;

/// Remembers signatures for as long as their timestamp is good.
///
/// In memory, and of this process: after a restart, and at another replica, a signature is good once
/// more until its time has passed. Each user has a share, so that nobody's requests use up another's.
#[derive(Debug)]
pub struct Replays {
    share: usize,
    seen: Mutex<HashMap<UserName, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    digests: HashSet<[u8; 32]>,
    /// By the second at which they may be forgotten.
    by_end: BTreeSet<(u64, [u8; 32])>,
}

/// A timestamped signature can't be admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Replayed {
    /// It was used before.
    #[error("this signature was used before: sign every request anew")]
    Again,
    /// Too many of this user's are remembered to remember this one.
    #[error("too many signed requests of yours in the last minutes; try again")]
    Full,
}

impl Replays {
    /// A memory for so many users.
    #[must_use]
    pub fn of(users: usize) -> Self {
        Self { share: (MOST / users.max(1)).max(LEAST), seen: Mutex::default() }
    }

    /// Admits a signature that was found to be this user's, once; one without a timestamp always.
    ///
    /// # Errors
    /// When it was admitted before, or can't be remembered.
    pub fn admit(&self, user: &UserName, signature: &Signature, now: SystemTime) -> Result<(), Replayed> {
        let (Some(time), Ok(digest)) = (signature.time, signature.digest.as_slice().try_into()) else { return Ok(()) };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut of_all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = of_all.entry(user.clone()).or_default();
        while let Some((end, digest)) = seen.by_end.first().copied().filter(|(end, _)| *end < now) {
            seen.by_end.remove(&(end, digest));
            seen.digests.remove(&digest);
        }
        if seen.digests.contains(&digest) {
            return Err(Replayed::Again);
        }
        if seen.digests.len() >= self.share {
            return Err(Replayed::Full);
        }
        seen.digests.insert(digest);
        // The body is read between the check of its time and this: one more window for that.
        seen.by_end.insert((time.saturating_add(2 * CLOCK_SKEW.as_secs()), digest));
        Ok(())
    }
}
