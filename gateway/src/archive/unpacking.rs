//! How many archives are unpacked at once: how much memory a decompressor takes, its caller says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use kiln_auth::UserName;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Turns at unpacking, in the order in which they were asked for. An owner has half of them at most.
#[derive(Clone, Debug)]
pub(super) struct Unpacking(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: Arc<Semaphore>,
    of_owner: usize,
    /// Of those who have a turn or wait for one.
    owners: Mutex<HashMap<UserName, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_owner: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Unpacking {
    /// Lets each owner unpack so many at once, and all together twice as many.
    pub(super) fn new(of_owner: usize) -> Self {
        let all = Arc::new(Semaphore::new(of_owner.saturating_mul(2).min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { all, of_owner, owners: Mutex::default() }))
    }

    /// Waits for a turn; whoever gives up waiting is in nobody's way.
    ///
    /// # Errors
    /// Never: nobody closes these.
    pub(super) async fn turn(&self, owner: &UserName) -> Result<Turn, AcquireError> {
        // The owner's first: who has theirs already has no second one to wait in the others' way.
        let of_owner = self.of(owner).acquire_owned().await?;
        let of_all = Arc::clone(&self.0.all).acquire_owned().await?;
        Ok(Turn { _of_owner: of_owner, _of_all: of_all })
    }

    fn of(&self, owner: &UserName) -> Arc<Semaphore> {
        let mut owners = self.0.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = owners.get(owner).and_then(Weak::upgrade) {
            return turns;
        }
        owners.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(self.0.of_owner));
        owners.insert(owner.clone(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_bounded_in_all_and_of_each_owner_and_come_back() {
        let owner = |name: &str| UserName::parse(name).unwrap();
        let unpacking = Unpacking::new(2);
        let comes = async |name| timeout(Duration::from_secs(60), unpacking.turn(&owner(name))).await.is_ok();
        let (one, two) = (unpacking.turn(&owner("one")).await, unpacking.turn(&owner("one")).await);
        assert!(!comes("one").await, "the owner has two");
        let others = (unpacking.turn(&owner("two")).await, unpacking.turn(&owner("three")).await);
        assert!(!comes("four").await, "there are four");
        drop(one);
        assert!(comes("four").await && comes("one").await, "those who gave up hold nothing");
        drop((two, others));
        assert!(comes("five").await);
        assert_eq!(unpacking.0.owners.lock().unwrap().len(), 1, "who has no turn isn't remembered");
    }
}
