//! The tower layer that makes the answer out of what came from below and of what the request was, without
//! a box or a copy of what lies below: every request passes several.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{extract::Request, response::Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service, layer::layer_fn};

/// Notes something of each request, and answers with it.
#[derive(Clone)]
pub(crate) struct Around<S, N, A> {
    inner: S,
    note: N,
    answer: A,
}

pin_project! {
    /// An answer on its way.
    pub(crate) struct Answering<F, T, A> {
        #[pin]
        inner: F,
        noted: Option<T>,
        answer: A,
    }
}

/// Calls `answer` with what `note` made of the request, and what came of it.
pub(crate) fn around<S, N, T, A>(note: N, answer: A) -> impl Layer<S, Service = Around<S, N, A>> + Clone
where
    N: Fn(&Request) -> T + Clone,
    A: Clone,
{
    layer_fn(move |inner| Around { inner, note: note.clone(), answer: answer.clone() })
}

impl<S, N, T, A> Service<Request> for Around<S, N, A>
where
    S: Service<Request>,
    N: Fn(&Request) -> T,
    A: Fn(T, Result<S::Response, S::Error>) -> Response + Clone,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Answering<S::Future, T, A>;

    /// No layer of Kiln's makes anybody wait here: what is full says so when it is called.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx).map(|_ready| Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let noted = Some((self.note)(&request));
        Answering { inner: self.inner.call(request), noted, answer: self.answer.clone() }
    }
}

impl<F, T, A, R, E> Future for Answering<F, T, A>
where
    F: Future<Output = Result<R, E>>,
    A: Fn(T, Result<R, E>) -> Response,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let came = ready!(this.inner.poll(cx));
        match this.noted.take() {
            Some(noted) => Poll::Ready(Ok((this.answer)(noted, came))),
            // Asked again after its end, as no future is.
            None => Poll::Pending,
        }
    }
}
