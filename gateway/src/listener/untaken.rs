//! Answers over HTTP/2 that their peer doesn't take.
//!
//! A connection whose peer reads nothing at all is ended by the system. In HTTP/2 a peer can read
//! all that goes on and still give one stream no room: its answer then waits for ever, with the
//! place that it holds. hyper sends each HTTP/2 answer in a task of its own and doesn't ask the body
//! for more while the last part waits, so whether it waits for the peer or for the body is known here.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep};

use super::connection::UnderWay;

/// How long a peer may leave what was sent to it unread or unacknowledged. Without it a follower that
/// is gone, or reads nothing, keeps its stream's place for as long as the system tries: 15 minutes, or ever.
pub(super) const UNTAKEN_AT_MOST: Duration = Duration::from_secs(60);

tokio::task_local! {
    /// Since when the last part of the answer that this task sends has been waiting; `None` while the
    /// answer has no more yet.
    static WAITING: Cell<Option<Instant>>;
}

/// Runs what sends answers over HTTP/2, each for as long as it is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Senders;

/// An answer's body, which tells its sender when it has handed out a part.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Senders {
    fn execute(&self, sender: F) {
        tokio::spawn(WAITING.scope(Cell::new(None), while_taken(sender)));
    }
}

/// Runs a sender to its end, or until its peer has left a part alone for too long; dropping it then
/// resets the stream.
async fn while_taken(sender: impl Future<Output = ()>) {
    let mut sender = pin!(sender);
    let mut end = pin!(sleep(UNTAKEN_AT_MOST));
    poll_fn(|cx| {
        if sender.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = WAITING.with(Cell::get) else { return Poll::Pending };
        let at = since + UNTAKEN_AT_MOST;
        if end.deadline() != at {
            end.as_mut().reset(at);
        }
        end.as_mut().poll(cx)
    })
    .await;
}

impl Answer {
    pub(super) fn new(body: Body, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // Over HTTP/1 there is no such task, and the system's deadline.
        let _ = WAITING.try_with(|waiting| waiting.set(matches!(frame, Poll::Ready(Some(_))).then(Instant::now)));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
