//! How slowly a body may come that nobody has proved yet to be theirs.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use tokio::time::{Instant, timeout};
use tower::BoxError;

/// How long nothing may come. A connection that loses packets is silent for 3 s at times.
const SILENT: Duration = Duration::from_secs(10);
/// How long a sender is waited for, in all, before it is looked at how much that has brought.
const WINDOW: Duration = Duration::from_secs(15);
/// What that must have brought: 16 KiB a second, a quarter of what a bad mobile connection carries.
const AT_LEAST: usize = 15 * 16 * 1024;

/// The body comes too slowly for the place that it takes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body came too slowly: nothing for 10 s, or less than 16 KiB a second")]
pub struct TooSlow;

/// How a sender did since it was last looked at.
#[derive(Default)]
struct Window {
    waited: Duration,
    came: usize,
}

/// A body that ends with a [`TooSlow`], boxed, when its sender does too little. Only the time counts in
/// which the sender is waited for: a slow disk isn't its fault.
pub fn paced<S, E>(body: S) -> impl Stream<Item = Result<Bytes, BoxError>>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    let body = Box::pin(body.map_err(Into::into));
    stream::try_unfold((body, Window::default()), async |(mut body, mut window)| {
        let asked = Instant::now();
        let next = timeout(SILENT, pin!(body.try_next())).await.map_err(|_| TooSlow)?;
        let Some(chunk) = next? else { return Ok(None) };
        window.add(asked.elapsed(), chunk.len())?;
        Ok(Some((chunk, (body, window))))
    })
}

impl Window {
    fn add(&mut self, waited: Duration, came: usize) -> Result<(), TooSlow> {
        self.waited += waited;
        self.came = self.came.saturating_add(came);
        if self.waited < WINDOW {
            return Ok(());
        }
        if self.came < AT_LEAST {
            return Err(TooSlow);
        }
        *self = Self::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::StreamExt as _;
    use tokio::time::sleep;

    use super::*;

    /// What becomes of so many chunks with a pause before each, read by somebody who takes `works` for
    /// each; and when that is known.
    async fn send(chunks: usize, length: usize, pause: Duration, works: Duration) -> (Result<usize, BoxError>, u64) {
        let begun = Instant::now();
        let body = stream::unfold(0, move |sent| async move {
            sleep(pause).await;
            (sent < chunks).then(|| (Ok::<_, Infallible>(Bytes::from(vec![0; length])), sent + 1))
        });
        let mut body = pin!(paced(body));
        let mut read = 0;
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => read += chunk.len(),
                Err(error) => return (Err(error), begun.elapsed().as_secs()),
            }
            sleep(works).await;
        }
        (Ok(read), begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_who_is_silent_or_trickles_is_too_slow_and_a_slow_reader_isnt() {
        let secs = Duration::from_secs;
        for (chunks, length, pause, works, ends) in [
            (1, 1, 11, 0, Err(10)),
            // One byte every 9 s, or every second.
            (100, 1, 9, 0, Err(18)),
            (100, 1, 1, 0, Err(15)),
            // Just below the rate, and just at it.
            (100, 16 * 1024 - 1, 1, 0, Err(15)),
            (100, 16 * 1024, 1, 0, Ok(100 * 16 * 1024)),
            // A short body may take its time, up to a point.
            (10, 1, 1, 0, Ok(10)),
            (100, 32 * 1024, 1, 20, Ok(100 * 32 * 1024)),
        ] {
            let (sent, after) = send(chunks, length, secs(pause), secs(works)).await;
            let got = sent.map_err(|error| {
                assert!(error.is::<TooSlow>(), "{error}");
                after
            });
            assert_eq!(got, ends, "{chunks} of {length}, each after {pause} s");
        }
    }
}
