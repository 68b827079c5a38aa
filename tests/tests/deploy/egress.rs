//! What `egress` is in the networks of the instances: one name, and both gateways.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// An address where each connection gets to one of two gateways, and to the other one while that is away: as with a name
/// that has both of their addresses. Dropping it closes it for new connections.
pub(crate) struct Egress {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

// === impl Egress ===

impl Egress {
    /// Leads to what these gateways have for model calls.
    pub(crate) async fn start(gateways: [SocketAddr; 2]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let gateways = Arc::new(gateways);
        let accepting = tokio::spawn(async move {
            let mut first = 0;
            while let Ok((client, _)) = listener.accept().await {
                first += 1;
                tokio::spawn(lead(client, Arc::clone(&gateways), first));
            }
        });
        Self { address, accepting }
    }

    /// What instances are told.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn lead(mut client: TcpStream, gateways: Arc<[SocketAddr; 2]>, first: usize) {
    for n in first..first + gateways.len() {
        let gateway = gateways[n % gateways.len()];
        if let Ok(mut stream) = TcpStream::connect(gateway).await {
            // The only failure is a connection that is gone, which shows itself.
            let _ = (client.set_nodelay(true), stream.set_nodelay(true));
            // Whoever is left finds its connection closed.
            let _ = copy_bidirectional(&mut client, &mut stream).await;
            return;
        }
    }
}
