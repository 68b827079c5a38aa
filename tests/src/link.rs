//! A connection between two programs that can be cut, as by a network that is away.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

use crate::error::{Error, Result};

/// An address that leads to another one, unless it is cut. Dropping it cuts it for good.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    cut: Notify,
}

// === impl Link ===

impl Link {
    /// Leads to `host:port`.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] without a free port.
    pub async fn to(server: &str) -> Result<Self> {
        let failed = |error| Error::connection("a link", error);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::<State>::default();
        let (accepted, server) = (Arc::clone(&state), server.to_owned());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&accepted).serve(near, server.clone()));
            }
        });
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// The base URL, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections, and whatever is connected from now on.
    pub fn cut(&self) {
        self.state.is_cut.store(true, SeqCst);
        self.state.cut.notify_waiters();
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.is_cut.store(false, SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

// === impl State ===

impl State {
    async fn serve(self: Arc<Self>, mut near: TcpStream, server: String) {
        // Before it is asked whether it is cut already, so that no cut is missed.
        let cut = self.cut.notified();
        if self.is_cut.load(SeqCst) {
            return;
        }
        let carried = async {
            if let Ok(mut far) = TcpStream::connect(server).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        };
        tokio::select! {
            () = cut => {}
            () = carried => {}
        }
    }
}
