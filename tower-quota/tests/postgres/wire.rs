//! What lies between the store and the server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::support::Database;

/// Passes messages on to the server, counts those that want an answer, and does worse if it is told to.
pub(crate) struct Wire {
    pub(crate) port: u16,
    state: watch::Sender<State>,
    asked: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum State {
    Open,
    /// Nothing gets through, until it does.
    Silent,
    /// Every connection is closed, those that exist and those to come.
    Cut,
}

impl Wire {
    pub(crate) async fn to(database: &Database) -> Self {
        let (host, port) = database.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (state, states) = watch::channel(State::Open);
        let (asked, opened) = (Arc::default(), Arc::default());
        let (asks, opens) = (Arc::clone(&asked), Arc::clone(&opened));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                AtomicUsize::fetch_add(&opens, 1, Ordering::SeqCst);
                client.set_nodelay(true).unwrap();
                let (host, states, asks) = (host.clone(), states.clone(), Arc::clone(&asks));
                tokio::spawn(async move {
                    let mut cut = states.clone();
                    tokio::select! {
                        _ = cut.wait_for(|state| *state == State::Cut) => {}
                        _ = async {
                            let server = TcpStream::connect((&*host, port)).await.unwrap();
                            server.set_nodelay(true).unwrap();
                            let (from_client, to_client) = client.into_split();
                            let (from_server, to_server) = server.into_split();
                            tokio::join!(
                                pass(from_client, to_server, states.clone(), Some(&*asks)),
                                pass(from_server, to_client, states.clone(), None),
                            )
                        } => {}
                    }
                });
            }
        });
        Self {
            port: own,
            state,
            asked,
            opened,
        }
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// How many round trips there were, without those that make a connection.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

/// A client's messages begin with their kind and length, all but its first.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    asked: Option<&AtomicUsize>,
) {
    let mut is_first = asked.is_some();
    loop {
        let mut message = Vec::new();
        if !is_first {
            message.push(from.read_u8().await.unwrap_or(0));
        }
        let Ok(length) = from.read_u32().await else {
            return;
        };
        is_first = false;
        message.extend_from_slice(&length.to_be_bytes());
        let rest = message.len() + usize::try_from(length).unwrap() - 4;
        let begun = message.len();
        message.resize(rest, 0);
        if from.read_exact(&mut message[begun..]).await.is_err() {
            return;
        }
        if let Some(asked) = asked
            && message[0] == b'S'
        {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        if states
            .wait_for(|state| *state == State::Open)
            .await
            .is_err()
            || to.write_all(&message).await.is_err()
        {
            return;
        }
    }
}
