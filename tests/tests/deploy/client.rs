//! A client as OpenClaw's own is: when it is told to come again it does, after a moment that is not everybody's; what was
//! not answered it sends again by the same key; and what it has missed it reads in the history.

use std::time::Duration;

use gateway_tests::{
    browser::Browser,
    dice::Dice,
    error::{Error, Result},
    person::{Person, Socket, Turn, connect_params, send_params},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How long somebody may be away, how long an answer may take, and how long a run.
const PATIENCE: Duration = Duration::from_secs(180);

/// When nothing has come for so long, a client that was away looks into the history.
const SILENCE: Duration = Duration::from_secs(2);

/// Between two attempts to come back, in milliseconds: at least, and at most so much more.
const PAUSE: (u64, u64) = (200, 800);

/// Who is refused again and again comes less and less often: after so many pauses at most, some ten seconds.
const MOST_PAUSES: u32 = 16;

/// Who it is for, and what signs them in.
#[derive(Clone)]
pub(crate) enum Who {
    /// A program with a token.
    Program(Person),
    /// A page of this origin in a browser, which has a session.
    Page(Box<Browser>, String),
}

/// A client with a socket, and again and again one.
pub(crate) struct Client {
    who: Who,
    pub(crate) socket: Socket,
    dice: Dice,
    /// Close codes of the sockets it has had.
    pub(crate) codes: Vec<u16>,
    /// How it was refused when it has knocked in vain.
    pub(crate) refused: Vec<Error>,
}

// === impl Who ===

impl Who {
    async fn open(&self) -> Result<Socket> {
        let mut socket = match self {
            Self::Program(person) => person.open().await?,
            Self::Page(browser, origin) => {
                let url = format!("{}/ws", origin.replacen("http", "ws", 1));
                let ws = browser.socket(origin, &url).await?;
                Socket::over(ws, connect_params(&json!({}))).await?
            }
        };
        socket.ws = socket.ws.with_limit(PATIENCE);
        Ok(socket)
    }
}

// === impl Client ===

impl Client {
    /// Opens its first socket. Clients with other seeds come back at other times.
    pub(crate) async fn open(who: Who, seed: u64) -> Result<Self> {
        let (dice, mut refused) = (Dice::new(seed + 1), Vec::new());
        Ok(Self {
            socket: knock(&who, &dice, &mut refused).await?,
            who,
            dice,
            codes: Vec::new(),
            refused,
        })
    }

    /// Sends a message in the main session and answers the run's id, which is that of the message.
    pub(crate) async fn start(&mut self, message: &str) -> Result<String> {
        let params = send_params(message)?;
        let answer = self.ask("chat.send", &params).await?;
        let status = answer["status"].as_str().unwrap_or_default();
        // A message that is sent again may be known already.
        let is_taken = ["started", "in_flight", "ok"].contains(&status);
        assert!(is_taken, "{answer}");
        Ok(answer["runId"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until some of a run's reply is there, or the socket has ended.
    pub(crate) async fn begin_of(&mut self, run: &str) -> Result<()> {
        let says = |frame: &Value| {
            let payload = &frame["payload"];
            frame["event"] == "chat" && payload["runId"] == run && payload["state"] == "delta"
        };
        match self.socket.ws.find(says).await {
            Err(Error::Closed { code, .. }) => self.come_back(code).await,
            found => found.map(|_| ()),
        }
    }

    /// The end of a run: as it is told, or as the history has it.
    pub(crate) async fn end_of(&mut self, run: &str) -> Result<Turn> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout(SILENCE, self.socket.end_of(run)).await {
                Ok(Ok(turn)) => return Ok(turn),
                Ok(Err(Error::Closed { code, .. })) => self.come_back(code).await?,
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
            if !self.codes.is_empty()
                && let Some(turn) = self.find_in_history(run).await?
            {
                return Ok(turn);
            }
            if Instant::now() > deadline {
                return Err(Error::Late(PATIENCE, format!("the end of {run}")));
            }
        }
    }

    /// Asks something that may be asked again, until it is answered: also when it is told to ask again in a moment.
    pub(crate) async fn ask(&mut self, method: &str, params: &Value) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut answer = match self.socket.ws.request(method, params.clone()).await {
                Err(Error::Closed { code, .. }) => {
                    self.come_back(code).await?;
                    continue;
                }
                answered => answered?,
            };
            if answer["ok"] == true {
                return Ok(answer["payload"].take());
            }
            let error = &answer["error"];
            assert_eq!(error["retryable"], true, "{method}: {error}");
            assert!(Instant::now() < deadline, "{method}: {error}");
            pause(&self.dice).await;
        }
    }

    /// Reads what comes, and comes back, until it is told to stop; then it is there.
    pub(crate) async fn stay(&mut self, mut stop: watch::Receiver<()>) -> Result<()> {
        loop {
            let next = tokio::select! {
                next = self.socket.ws.next() => next,
                // Told, or nobody is there who could tell.
                _ = stop.changed() => return Ok(()),
            };
            match next {
                Ok(_) | Err(Error::Late(..)) => {}
                Err(Error::Closed { code, .. }) => self.come_back(code).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn come_back(&mut self, code: u16) -> Result<()> {
        self.codes.push(code);
        pause(&self.dice).await;
        self.socket = knock(&self.who, &self.dice, &mut self.refused).await?;
        Ok(())
    }

    async fn find_in_history(&mut self, run: &str) -> Result<Option<Turn>> {
        let asked = json!({"sessionKey": "main", "limit": 20});
        let history = self.ask("chat.history", &asked).await?;
        let messages = history["messages"].as_array().into_iter().flatten();
        let mut replies = messages.filter(|message| {
            message["role"] == "assistant" && message["__openclaw"]["runId"] == run
        });
        Ok(replies
            .next_back()
            .map(|reply| Turn::of_history(run, reply)))
    }
}

/// Tries to open a socket until it is there, whatever it is refused with: 502 and 503, too, are no reason to stay away.
async fn knock(who: &Who, dice: &Dice, refused: &mut Vec<Error>) -> Result<Socket> {
    let deadline = Instant::now() + PATIENCE;
    let mut pauses = 1;
    loop {
        match who.open().await {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) => refused.push(error),
            opened => return opened,
        }
        for _ in 0..pauses {
            pause(dice).await;
        }
        pauses = MOST_PAUSES.min(2 * pauses);
    }
}

/// Everybody's is another one, so that not all come at once.
async fn pause(dice: &Dice) {
    let pause = PAUSE.0 + dice.roll(PAUSE.1);
    sleep(Duration::from_millis(pause)).await;
}
