//! The two, what she has, and what he has heard.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    openclaw::operator,
    person::{Person, Socket, send_params},
    secret,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Everything a person may list. What they are told is part of what is searched.
const LISTS: [(&str, &str); 8] = [
    ("agents.list", "{}"),
    (
        "sessions.list",
        r#"{"includeDerivedTitles":true,"includeLastMessage":true}"#,
    ),
    ("system-presence", "{}"),
    ("health", "{}"),
    ("models.list", "{}"),
    ("chat.history", "{}"),
    ("chat.metadata", "{}"),
    ("sessions.describe", "{}"),
];

/// Two people at one gateway. Their names are as random as what they say, so that any of it can be searched for.
pub(crate) struct Two {
    pub(crate) kit: Kit,
    pub(crate) gateway: Gateway,
    pub(crate) alice: Socket,
    pub(crate) bob: Socket,
    pub(crate) bob_himself: Person,
    pub(crate) hers: Hers,
    /// His name, and his user id.
    pub(crate) name: String,
    /// What he says where nothing of it may be heard.
    pub(crate) never: String,
    pub(crate) dir: TempDir,
    /// What he got by other ways than his socket.
    pub(crate) told: String,
    /// An event of her long answer was last seen then.
    began: Instant,
}

/// What is hers, and he knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hers {
    /// In all that she says, in her name, and so in her e-mail address and user id.
    pub(crate) canary: String,
    pub(crate) agent: String,
    pub(crate) session: String,
    pub(crate) session_id: String,
    /// Of a second session.
    pub(crate) other: String,
    /// A run that goes on while he tries.
    pub(crate) run: String,
    pub(crate) token: String,
}

/// The agent of whoever has that socket.
pub(crate) fn agent_of(socket: &Socket) -> String {
    let agent = &socket.hello["snapshot"]["sessionDefaults"]["defaultAgentId"];
    agent.as_str().unwrap_or_default().to_owned()
}

// === impl Two ===

impl Two {
    pub(crate) async fn meet() -> Result<Self> {
        let began = Instant::now();
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let gateway = Gateway::start(Config::new(&kit, dir.path())?, dir.path()).await?;
        let canary = format!("canary-{}", secret::mark()?);
        let name = format!("bob-{}", secret::mark()?);
        let alice_herself = Person::sign_in(&kit, &canary, &gateway).await?;
        let bob_himself = Person::sign_in(&kit, &name, &gateway).await?;
        let (alice, mut bob) = tokio::try_join!(alice_herself.open(), bob_himself.open())?;
        bob.ws.listen();
        let agent = agent_of(&alice);
        assert_ne!(agent, agent_of(&bob));
        let hers = Hers {
            session: format!("agent:{agent}:main"),
            agent,
            token: alice_herself.token,
            canary,
            ..Hers::default()
        };
        let told = bob.hello.to_string();
        Ok(Self {
            kit,
            gateway,
            alice,
            bob,
            bob_himself,
            never: format!("never-{}", secret::mark()?),
            hers,
            name,
            dir,
            told,
            began,
        })
    }

    /// How far it is.
    pub(crate) fn say(&self, what: &str) {
        println!("{:>5.1} s: {what}", self.began.elapsed().as_secs_f32());
    }

    /// All that alice does while he listens: messages, a tool that writes a file, an abort, a session of another label, and
    /// at last a long answer.
    pub(crate) async fn alice_works(&mut self) -> Result<()> {
        for (method, params) in [
            ("sessions.subscribe", json!({})),
            ("sessions.messages.subscribe", json!({"key": "main"})),
        ] {
            self.bob.ws.call(method, params).await?;
        }
        self.say("both are there");
        assert_eq!(self.bob.turn("something of my own").await?.state, "final");
        self.say("he has spoken");
        let canary = self.hers.canary.clone();
        let alice = &mut self.alice;
        alice.ws.call("sessions.subscribe", json!({})).await?;
        let write =
            json!({"path": format!("{canary}.txt"), "content": format!("{canary} in a file")});
        let diary = json!({"path": "diary.txt", "content": format!("{canary} in a file")});
        for message in [
            format!("{canary} said"),
            format!("{canary} file [[tool=write {write}]] [[tool=write {diary}]]"),
        ] {
            let turn = alice.turn(&message).await?;
            assert_eq!(turn.state, "final", "{}", turn.text);
        }
        let long = format!("{canary} long [[words=400]] [[chunk_delay=20]]");
        let run_id = alice.start(&long).await?;
        until_it_speaks(alice, &run_id).await?;
        let abort = json!({"sessionKey": "main", "runId": run_id});
        assert_eq!(alice.ws.call("chat.abort", abort).await?["aborted"], true);
        assert_eq!(alice.end_of(&run_id).await?.state, "aborted");

        let label = json!({"label": format!("{canary} label")});
        let created = alice.ws.call("sessions.create", label).await?;
        let key = &created["key"];
        self.hers.other = key.as_str().unwrap_or_default().to_owned();
        let label = json!({"key": key, "label": format!("{canary} other")});
        alice.ws.call("sessions.patch", label).await?;
        let mut send = send_params(&format!("{canary} there"))?;
        send["sessionKey"] = key.clone();
        let started = alice.ws.call("chat.send", send).await?;
        let run_id = started["runId"].as_str().unwrap_or_default().to_owned();
        assert_eq!(alice.end_of(&run_id).await?.state, "final");
        // A label is nobody's: that somebody else has it is not told.
        for socket in [&mut self.alice, &mut self.bob] {
            let label = json!({"label": "plans for tomorrow"});
            socket.ws.call("sessions.create", label).await?;
        }

        let shown = ask_for_everything(&mut self.alice).await?;
        for hers_alone in [
            format!("{canary} said"),
            format!("{canary} other"),
            format!("\"{canary}\""),
        ] {
            assert!(shown.contains(&hers_alone), "she is shown {hers_alone}");
        }
        names_nothing_of_the_host(&shown);
        let told = ask_for_everything(&mut self.bob).await?;
        assert!(told.contains("something of my own"), "he is shown his own");
        self.nothing_was_heard();

        let described = self.alice.ws.call("sessions.describe", json!({})).await?;
        let session_id = &described["session"]["sessionId"];
        self.hers.session_id = session_id.as_str().unwrap_or_default().to_owned();
        assert!(!self.hers.session_id.is_empty(), "{described}");
        let long = format!("{canary} goes on [[words=400]] [[chunk_delay=100]]");
        self.hers.run = self.alice.start(&long).await?;
        until_it_speaks(&mut self.alice, &self.hers.run.clone()).await
    }

    /// Looks through all that he got so far.
    pub(crate) fn nothing_was_heard(&self) {
        let Hers {
            canary,
            session,
            session_id,
            other,
            run,
            token,
            ..
        } = &self.hers;
        for told in [self.bob.ws.heard(), &self.told] {
            for (what, hers) in [
                ("her mark", canary),
                ("her session", session),
                ("her session's id", session_id),
                ("her other session", other),
                ("her run", run),
                ("her token", token),
            ] {
                let found = told.find(hers.as_str()).filter(|_| !hers.is_empty());
                let found =
                    found.map(|at| told.get(at.saturating_sub(400)..(at + 200).min(told.len())));
                assert_eq!(found, None, "he is told {what}");
            }
            names_nothing_of_the_host(told);
        }
    }

    /// That her run goes on, and all that is hers is as it was.
    pub(crate) async fn nothing_has_happened(&mut self) -> Result<()> {
        // Whatever was sent to him and not asked for, up to the answer to one last request.
        ask_for_everything(&mut self.bob).await?;
        let last = self.bob.ws.request("models.list", json!({})).await?;
        assert_eq!(last["ok"], true, "his socket is as good as before");
        self.nothing_was_heard();

        let ended = self.alice.end_of(&self.hers.run.clone()).await?;
        assert_eq!(ended.state, "final", "her run went on: {}", ended.text);
        let hers = self
            .alice
            .ws
            .call("chat.history", json!({"limit": 100}))
            .await?;
        let said = hers.to_string();
        assert!(
            !said.contains(&self.never),
            "his words are not there: {said}"
        );
        for own in ["said", "goes on"] {
            assert!(
                said.contains(&format!("{} {own}", self.hers.canary)),
                "{own}: {said}"
            );
        }
        let listed = self.alice.ws.call("sessions.list", json!({})).await?;
        assert_eq!(
            listed["sessions"].as_array().map(Vec::len),
            Some(3),
            "{listed}"
        );
        assert!(!listed.to_string().contains("stolen"), "{listed}");
        let described = self.alice.ws.call("sessions.describe", json!({})).await?;
        assert_eq!(
            described["session"]["sessionId"],
            self.hers.session_id.as_str()
        );
        assert_ne!(described["session"]["archived"], true);
        let calls = self.kit.provider().calls_about(&self.never).await?;
        assert!(calls.is_empty(), "{calls:?}");
        let theirs = self.kit.provider().calls_about(&self.hers.canary).await?;
        assert_eq!(theirs.len(), 7, "her turns and her tools: {theirs:?}");
        assert_eq!(self.bob.turn("mine").await?.state, "final");
        Ok(())
    }

    /// The directory of somebody's workspace.
    pub(crate) fn workspace(&self, user: &str) -> PathBuf {
        self.dir.path().join("users").join(user).join("workspace")
    }

    /// Where the instance keeps its configuration.
    pub(crate) async fn instance_config(&self) -> Result<PathBuf> {
        let scopes = ["operator.admin"];
        let (mut admin, _) =
            operator(&self.kit.openclaw, &self.kit.openclaw_password, &scopes).await?;
        let config = admin.call("config.get", json!({})).await?;
        Ok(Path::new(config["path"].as_str().unwrap_or_default()).to_owned())
    }

    /// The words of her diary on the disk.
    pub(crate) fn diary(&self) -> String {
        let diary = self.workspace(&self.hers.canary).join("diary.txt");
        fs::read_to_string(diary).unwrap_or_default()
    }
}

fn names_nothing_of_the_host(told: &str) {
    for (name, host) in [
        ("state directory", "openclaw-agent.sqlite"),
        ("configuration", "openclaw.json"),
    ] {
        assert!(!told.contains(host), "{name}");
    }
}

/// Until a run says something.
async fn until_it_speaks(socket: &mut Socket, run_id: &str) -> Result<()> {
    let speaks =
        |frame: &Value| frame["payload"]["runId"] == run_id && frame["payload"]["state"] == "delta";
    socket.ws.find(speaks).await.map(|_| ())
}

async fn ask_for_everything(socket: &mut Socket) -> Result<String> {
    let mut told = String::new();
    for (method, params) in LISTS {
        let params = serde_json::from_str(params).unwrap_or_default();
        told.push_str(&socket.ws.request(method, params).await?.to_string());
    }
    Ok(told)
}
