use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream that fails when its peer takes next to nothing of what is written for some time: a system calls a full buffer
/// writable again when a part of it is free. Nobody else notices: what would tell
/// such a peer off waits behind what it does not take.
pub(super) struct SendTimeout<S> {
    stream: S,
    limit: Duration,
    /// Runs while something waits to be taken.
    waiting: Option<Pin<Box<Sleep>>>,
    passed: Arc<Passed>,
}

/// How many bytes have gone which way.
#[derive(Debug, Default)]
pub(super) struct Passed {
    received: AtomicU64,
    sent: AtomicU64,
}

// === impl Passed ===

impl Passed {
    /// Bytes that the peer has taken beyond as many as it has sent: what it has sent may be all that it is answered. It falls
    /// as well as it rises.
    pub(super) fn beyond_echo(&self) -> i64 {
        let [received, sent] = [&self.received, &self.sent].map(|count| {
            let count = count.load(Ordering::Relaxed);
            i64::try_from(count).unwrap_or(i64::MAX)
        });
        sent - received
    }
}

// === impl SendTimeout ===

impl<S> SendTimeout<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            waiting: None,
            passed: Arc::default(),
        }
    }

    /// What has passed; it goes on counting.
    pub(super) fn passed(&self) -> Arc<Passed> {
        Arc::clone(&self.passed)
    }

    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn counted(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = polled {
            let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
            self.passed.sent.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SendTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len().saturating_sub(before);
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.passed.received.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SendTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.counted(&polled);
        self.bounded(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.counted(&polled);
        self.bounded(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_waited_for_so_long_and_who_takes_little_longer() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = SendTimeout::new(ours, LIMIT);
        let passed = stream.passed();
        let reader = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(LIMIT - Duration::from_secs(1)).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
            theirs
        });
        stream.write_all(&[0; 40]).await.unwrap();
        assert_eq!(passed.beyond_echo(), 40);
        let _theirs = reader.await.unwrap();
        let begun = Instant::now();
        let refused = stream.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), LIMIT);
    }
}
