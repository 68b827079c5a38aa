use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::instance::Upstreams;
use crate::shutdown::Shutdown;

/// How long the gateway waits, when the sockets are gone, until the instances have called a model for the runs that began
/// last: the first run of a new agent takes longer, and the model is then called by another gateway, or in vain.
const PREPARING: Duration = Duration::from_secs(10);

/// How long sockets that are ended at the deadline may take to be told so.
const FAREWELL: Duration = Duration::from_secs(3);

/// Says when the gateway is to stop; clones are told the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// It is to stop, and to let what is under way end.
    pub(super) told: CancellationToken,
    /// It is to wait for nothing any more.
    pub(super) at_once: CancellationToken,
}

/// What ends when the gateway is told to stop.
pub(super) struct Stopping {
    pub(super) shutdown: Shutdown,
    /// The open sockets.
    pub(super) sockets: TaskTracker,
    pub(super) upstreams: Upstreams,
    pub(super) listeners: JoinSet<()>,
    pub(super) at_once: CancellationToken,
}

// === impl Stopping ===

impl Stopping {
    /// Ends all of it within `limit`, or a little later: what has not ended by itself is cut off.
    ///
    /// Sockets go during the first two thirds; listeners answer until all are gone, and what is still asked then has the
    /// rest.
    pub(super) async fn within(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.shutdown.begin();
        info!(
            sockets = self.sockets.len(),
            seconds = limit.as_secs(),
            "gateway stops; those who are here are told to come again"
        );
        let at_once = self.at_once.clone();
        let ended = timeout_at(deadline, self.end(limit / 3 * 2));
        match at_once.run_until_cancelled(ended).await {
            Some(Ok(())) => return,
            Some(Err(_)) => {
                warn!("some calls did not end in time; they are recorded as far as they came");
            }
            None => warn!("told to stop at once; calls are recorded as far as they came"),
        }
        self.shutdown.end().cancel();
        // Without a close frame they would not know that they are to come again.
        if timeout(FAREWELL, self.sockets.wait()).await.is_err() {
            warn!(sockets = self.sockets.len(), "sockets are cut off");
        }
    }

    async fn end(&mut self, going: Duration) {
        self.sockets.close();
        let sockets = self.sockets.len();
        let told = self.shutdown.tell_sockets(sockets, going);
        tokio::join!(told, self.sockets.wait());
        // What the instances are about to ask for is still answered here: there may be no other gateway.
        let _ = timeout(PREPARING, async {
            for upstream in self.upstreams.all() {
                drop(upstream.gate.change().await);
            }
        })
        .await;
        self.shutdown.end().cancel();
        while self.listeners.join_next().await.is_some() {}
    }
}
