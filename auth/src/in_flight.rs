//! How many requests may be under way at once: in all, and of each owner.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::{BoxError, Layer, Service, layer::layer_fn};

use crate::{Identity, UserName};

/// Places that are taken and given back: so many for each key, a number that may change. Keys
/// without a taken place hold no memory.
#[derive(Clone, Debug)]
pub struct Places<K = ()>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K> {
    most: AtomicUsize,
    taken: Mutex<HashMap<K, usize>>,
}

/// A taken place, or as many as it has become; given back when dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash = ()> {
    places: Places<K>,
    key: K,
    held: usize,
}

/// There is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Full {
    /// For anybody.
    #[error("the gateway is overloaded; try again")]
    All,
    /// For this owner; others may still have one.
    #[error("too many requests of yours are under way; try again when some have ended")]
    Owner,
}

/// Holds a place from a request's head to the end of its answer's body, so that an answer which goes
/// on for long counts for as long. Without a place the request is a [`Full`], boxed.
#[derive(Clone)]
pub struct InFlight<S, K = ()> {
    inner: S,
    places: Places<K>,
    key: fn(&Extensions) -> Option<K>,
    full: Full,
}

/// A body that holds its request's place.
#[derive(Debug)]
pub struct Held<B, K: Eq + Hash = ()> {
    body: B,
    place: Option<Place<K>>,
}

// === impl Places ===

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many places for each key.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most: AtomicUsize::new(most), taken: Mutex::default() }))
    }

    /// Another number from now on; who has a place keeps it.
    pub fn set(&self, most: usize) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// Takes a place, if there is one.
    #[must_use]
    pub fn take(&self, key: K) -> Option<Place<K>> {
        let mut place = self.none(key);
        place.grow(1).then_some(place)
    }

    /// Takes no place yet, for whoever learns only later how many it needs.
    #[must_use]
    pub fn none(&self, key: K) -> Place<K> {
        Place { places: self.clone(), key, held: 0 }
    }

    /// How many places are left for a key.
    #[must_use]
    pub fn left(&self, key: &K) -> usize {
        let most = self.0.most.load(Ordering::Relaxed);
        most.saturating_sub(self.taken().get(key).copied().unwrap_or(0))
    }
}

impl<K> Places<K> {
    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl<K: Eq + Hash + Clone> Place<K> {
    /// Takes so many more; whether there were as many.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let most = self.places.0.most.load(Ordering::Relaxed);
        let mut taken = self.places.taken();
        let count = taken.get(&self.key).copied().unwrap_or(0);
        let Some(count) = count.checked_add(more).filter(|count| *count <= most) else { return false };
        // A key that holds nothing has no entry.
        if count > 0 {
            taken.insert(self.key.clone(), count);
        }
        self.held += more;
        true
    }

    /// An answer that gives the place back at the end of its body.
    #[must_use]
    pub fn until_sent<B>(self, answer: Response<B>) -> Response<Held<B, K>> {
        answer.map(|body| Held { body, place: Some(self) })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.key) {
            *count = count.saturating_sub(self.held);
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

// === impl InFlight ===

impl<S> InFlight<S> {
    /// Counts all requests together.
    pub fn of_all(places: Places) -> impl Layer<S, Service = Self> + Clone {
        layer_fn(move |inner| Self { inner, places: places.clone(), key: |_| Some(()), full: Full::All })
    }
}

impl<S> InFlight<S, UserName> {
    /// Counts each owner's requests; a request without an identity has no place.
    pub fn of_owner(places: Places<UserName>) -> impl Layer<S, Service = Self> + Clone {
        let key = |extensions: &Extensions| extensions.get::<Identity>().map(|identity| identity.user().clone());
        layer_fn(move |inner| Self { inner, places: places.clone(), key, full: Full::Owner })
    }
}

impl<S, K, B, R> Service<Request<B>> for InFlight<S, K>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    K: Eq + Hash + Clone + Send + 'static,
{
    type Response = Response<Held<R, K>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(place) = (self.key)(request.extensions()).and_then(|key| self.places.take(key)) else {
            let full = self.full;
            return Box::pin(async move { Err(full.into()) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            Ok(place.until_sent(answer))
        })
    }
}

impl<S: fmt::Debug, K: fmt::Debug> fmt::Debug for InFlight<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("inner", &self.inner).field("places", &self.places).finish_non_exhaustive()
    }
}

// === impl Held ===

impl<B: Body + Unpin, K: Eq + Hash + Unpin> Body for Held<B, K> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // The last frame may lie in the connection's buffer for long; the work is done.
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.place = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use bytes::Bytes;
    use http_body_util::Full as FullBody;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    type Answer = Response<Held<FullBody<Bytes>, UserName>>;

    async fn send(places: &Places<UserName>, user: &str) -> Result<Answer, BoxError> {
        let mut request = Request::new(());
        request.extensions_mut().insert(Identity::new(UserName::parse(user).unwrap(), "test"));
        let inner = service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(FullBody::new(Bytes::from_static(b"body"))))
        });
        InFlight::of_owner(places.clone()).layer(inner).oneshot(request).await
    }

    #[tokio::test]
    async fn an_owners_place_comes_back_with_the_end_of_the_body_and_others_have_theirs() {
        let places = Places::new(1);
        let mut first = send(&places, "devel").await.unwrap();
        let error = send(&places, "devel").await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Full::Owner));
        assert!(send(&places, "other").await.is_ok());
        let read = poll_fn(|cx| Pin::new(first.body_mut()).poll_frame(cx)).await;
        assert!(read.is_some() && send(&places, "devel").await.is_ok());
        let dropped = send(&places, "devel").await.unwrap();
        drop(dropped);
        assert!(send(&places, "devel").await.is_ok());
        assert!(places.taken().is_empty(), "nobody's place holds no memory");
    }

    #[test]
    fn a_place_grows_as_far_as_there_is_room_and_gives_all_of_it_back() {
        let places = Places::new(10);
        let mut first = places.none("a");
        assert!(places.taken().is_empty(), "nothing is held yet");
        assert!(first.grow(4) && first.grow(4) && !first.grow(3) && !first.grow(usize::MAX));
        assert_eq!((places.left(&"a"), places.left(&"b")), (2, 10));
        let mut second = places.none("a");
        assert!(second.grow(2) && !second.grow(1));
        drop(first);
        assert_eq!(places.left(&"a"), 8);
        drop(second);
        assert!(places.taken().is_empty());
    }

    #[test]
    fn a_new_number_counts_at_once_and_takes_nobodys_place() {
        let places = Places::new(2);
        let (one, two) = (places.take(()), places.take(()));
        assert!(one.is_some() && two.is_some() && places.take(()).is_none());
        places.set(3);
        assert!(places.take(()).is_some());
        places.set(1);
        drop(one);
        assert!(places.take(()).is_none());
        drop(two);
        assert!(places.take(()).is_some());
    }
}
