//! The waiting builds: bounded, and fair between owners, each of whom gets every n-th turn.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kiln_auth::UserName;
use kiln_backends::BuildId;
use tokio::sync::Notify;

/// The queue. It holds ids only; what is queued lies in the ledger.
#[derive(Clone, Debug)]
pub struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    changed: Arc<Notify>,
    most: usize,
    most_per_owner: usize,
    running_per_owner: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    by_owner: HashMap<UserName, Line>,
    /// Owners with builds, the next one first.
    turns: VecDeque<UserName>,
    /// Builds and reserved places.
    taken: usize,
    /// Builds that have left the queue and not yet ended.
    running: HashMap<UserName, usize>,
}

#[derive(Debug, Default)]
struct Line {
    ids: VecDeque<BuildId>,
    reserved: usize,
}

/// A build whose turn has come; its owner's next one may come once this is dropped.
#[derive(Debug)]
pub struct Turn {
    /// The build.
    pub id: BuildId,
    owner: UserName,
    queue: Queue,
}

/// There is no place.
#[derive(Debug, thiserror::Error)]
pub enum QueueFull {
    /// For anybody.
    #[error("the build queue is full; try again later")]
    Whole,
    /// For this owner, others may still queue.
    #[error("{0} builds of yours are waiting already; try again when some have ended")]
    Owner(usize),
}

/// A place held for a build that is being accepted; given back when dropped.
#[derive(Debug)]
pub struct Place {
    queue: Queue,
    owner: UserName,
}

impl Queue {
    /// An empty queue for `most` builds, `most_per_owner` of each owner.
    #[must_use]
    pub fn new(most: usize, most_per_owner: usize) -> Self {
        let running_per_owner = usize::MAX;
        Self { waiting: Arc::default(), changed: Arc::default(), most, most_per_owner, running_per_owner }
    }

    /// Lets no owner have more than so many builds running.
    #[must_use]
    pub fn running_per_owner(self, most: usize) -> Self {
        Self { running_per_owner: most.max(1), ..self }
    }

    /// Holds a place, so that a build that was accepted can always be queued.
    ///
    /// # Errors
    /// When the queue, or the owner's part of it, is full.
    pub fn reserve(&self, owner: &UserName) -> Result<Place, QueueFull> {
        let mut waiting = self.lock();
        if waiting.taken >= self.most {
            return Err(QueueFull::Whole);
        }
        let line = waiting.by_owner.entry(owner.clone()).or_default();
        if line.ids.len() + line.reserved >= self.most_per_owner {
            return Err(QueueFull::Owner(self.most_per_owner));
        }
        line.reserved += 1;
        waiting.taken += 1;
        Ok(Place { queue: self.clone(), owner: owner.clone() })
    }

    /// Holds a place for a build that was accepted before, bounds or not.
    pub fn hold(&self, owner: &UserName) -> Place {
        let mut waiting = self.lock();
        waiting.by_owner.entry(owner.clone()).or_default().reserved += 1;
        waiting.taken += 1;
        Place { queue: self.clone(), owner: owner.clone() }
    }

    /// Queues a build that was accepted before, bounds or not: what is accepted is kept.
    pub fn restore(&self, owner: &UserName, id: BuildId) {
        let mut waiting = self.lock();
        waiting.taken += 1;
        waiting.push(owner, id);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Takes the next build as soon as there is one.
    pub async fn next(&self) -> Turn {
        loop {
            if let Some((owner, id)) = self.lock().pop(self.running_per_owner) {
                return Turn { id, owner, queue: self.clone() };
            }
            self.changed.notified().await;
        }
    }

    /// Takes a build out of its place; false if it isn't waiting.
    pub fn remove(&self, owner: &UserName, id: BuildId) -> bool {
        let mut waiting = self.lock();
        let Some(line) = waiting.by_owner.get_mut(owner) else { return false };
        let Some(at) = line.ids.iter().position(|waiting| *waiting == id) else { return false };
        line.ids.remove(at);
        waiting.taken -= 1;
        waiting.tidy(owner);
        true
    }

    /// How many builds wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_owner.values().map(|line| line.ids.len()).sum()
    }

    /// Whether no build waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Puts the accepted build into the place.
    pub fn fill(self, id: BuildId) {
        let mut waiting = self.queue.lock();
        // The drop below gives back the reservation; the build takes a place of its own.
        waiting.taken += 1;
        waiting.push(&self.owner, id);
        drop(waiting);
        self.queue.changed.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.taken -= 1;
        if let Some(line) = waiting.by_owner.get_mut(&self.owner) {
            line.reserved -= 1;
        }
        waiting.tidy(&self.owner);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        if let Entry::Occupied(mut running) = waiting.running.entry(self.owner.clone()) {
            *running.get_mut() -= 1;
            if *running.get() == 0 {
                running.remove();
            }
        }
        drop(waiting);
        // A build of this owner may have been passed over.
        self.queue.changed.notify_one();
    }
}

impl Waiting {
    fn push(&mut self, owner: &UserName, id: BuildId) {
        let line = self.by_owner.entry(owner.clone()).or_default();
        if line.ids.is_empty() {
            self.turns.push_back(owner.clone());
        }
        line.ids.push_back(id);
    }

    fn pop(&mut self, running_per_owner: usize) -> Option<(UserName, BuildId)> {
        let may = |owner: &UserName| self.running.get(owner).is_none_or(|running| *running < running_per_owner);
        let at = self.turns.iter().position(may)?;
        let owner = self.turns.remove(at)?;
        let line = self.by_owner.get_mut(&owner)?;
        let id = line.ids.pop_front()?;
        self.taken -= 1;
        if !line.ids.is_empty() {
            self.turns.push_back(owner.clone());
        }
        self.tidy(&owner);
        *self.running.entry(owner.clone()).or_default() += 1;
        Some((owner, id))
    }

    /// Forgets an owner without builds, so that the queue doesn't grow with owners ever seen.
    fn tidy(&mut self, owner: &UserName) {
        let Some(line) = self.by_owner.get(owner) else { return };
        if line.ids.is_empty() {
            self.turns.retain(|turn| turn != owner);
            if line.reserved == 0 {
                self.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn owners_take_turns_however_many_builds_one_of_them_has() {
        let queue = Queue::new(100, 50);
        let (a, b) = (owner("a"), owner("b"));
        let of_a: Vec<_> = (0..5).map(|_| BuildId::new()).collect();
        let of_b = BuildId::new();
        for id in &of_a {
            queue.reserve(&a).unwrap().fill(*id);
        }
        queue.reserve(&b).unwrap().fill(of_b);
        assert_eq!(queue.next().await.id, of_a[0]);
        assert_eq!(queue.next().await.id, of_b);
        assert_eq!(queue.next().await.id, of_a[1]);
    }

    #[tokio::test]
    async fn bounds_count_reservations_and_places_come_back() {
        let queue = Queue::new(3, 2);
        let (a, b) = (owner("a"), owner("b"));
        let first = queue.reserve(&a).unwrap();
        let second = queue.reserve(&a).unwrap();
        assert!(matches!(queue.reserve(&a), Err(QueueFull::Owner(2))));
        let _third = queue.reserve(&b).unwrap();
        assert!(matches!(queue.reserve(&b), Err(QueueFull::Whole)));
        drop(first);
        let id = BuildId::new();
        second.fill(id);
        assert!(queue.reserve(&b).is_ok());
        assert!(queue.remove(&a, id) && !queue.remove(&a, id));
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn an_owner_at_the_bound_is_passed_over_until_a_build_of_theirs_ends() {
        let queue = Queue::new(10, 10).running_per_owner(1);
        let (a, b) = (owner("a"), owner("b"));
        let ids: Vec<_> = (0..3).map(|_| BuildId::new()).collect();
        queue.reserve(&a).unwrap().fill(ids[0]);
        queue.reserve(&a).unwrap().fill(ids[1]);
        let first = queue.next().await;
        queue.reserve(&b).unwrap().fill(ids[2]);
        let second = queue.next().await;
        assert_eq!((first.id, second.id), (ids[0], ids[2]));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await.id }
        });
        drop(first);
        assert_eq!(waiting.await.unwrap(), ids[1]);
    }
}
