//! What lies between the ledger and the server.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::support::Database;

/// Passes on what is said, and does worse if it is told to.
pub(crate) struct Wire {
    pub(crate) port: u16,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Open,
    /// Nothing gets through, until it does.
    Silent,
    /// Every connection is closed, those that exist and those to come.
    Cut,
    /// The next commit of records gets through and its answer does not: then it is cut.
    Unanswered,
}

impl Wire {
    pub(crate) async fn to(database: &Database) -> Self {
        let (host, port) = database.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (state, states) = watch::channel(State::Open);
        let tell = state.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (host, states, tell) = (host.clone(), states.clone(), tell.clone());
                tokio::spawn(async move {
                    let mut cut = states.clone();
                    tokio::select! {
                        _ = cut.wait_for(|state| *state == State::Cut) => {}
                        _ = async {
                            let server = TcpStream::connect((&*host, port)).await.unwrap();
                            let (from_client, to_client) = client.into_split();
                            let (from_server, to_server) = server.into_split();
                            tokio::join!(
                                pass(from_client, to_server, states.clone(), None),
                                pass(from_server, to_client, states.clone(), Some(tell)),
                            )
                        } => {}
                    }
                });
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    answers: Option<watch::Sender<State>>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let said = &buffer[..length];
        if let Some(tell) = &answers
            && *states.borrow() == State::Unanswered
            && said.windows(7).any(|words| words == b"COMMIT\0")
        {
            tell.send_replace(State::Cut);
            return;
        }
        let goes_on = |state: &State| matches!(state, State::Open | State::Unanswered);
        if states.wait_for(goes_on).await.is_err() || to.write_all(said).await.is_err() {
            return;
        }
    }
}
