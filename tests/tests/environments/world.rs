//! A gateway, an instance of its own, and a small disk with everybody's directories.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    link::Link,
    openclaw::OpenClaw,
    other_issuer::OtherIssuer,
    person::Person,
    secret,
    storage::Storage,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tempfile::TempDir;

/// How long the first reply may take of many who ask at once.
const PATIENCE: Duration = Duration::from_secs(180);

/// Who chats at the end, by what stood in their way.
const CHATTING: [&str; 6] = ["full", "read-only", "failing", "before", "after", "refused"];

/// What a person's directory holds when it is whole.
const TREE: [&str; 6] = [
    "workspace/IDENTITY.md",
    "workspace/AGENTS.md",
    "sessions",
    "sandbox-workspace",
    ".openclaw/owner",
    ".openclaw/profiles",
];

pub(crate) struct World {
    pub(crate) kit: Kit,
    pub(crate) gateway: Gateway,
    pub(crate) instance: OpenClaw,
    /// Between the two.
    pub(crate) link: Link,
    pub(crate) partner: OtherIssuer,
    /// Lets the disk fail in ways in which no real one can be made to.
    pub(crate) storage: Storage,
    /// The workspace root: what is mounted there is as large as a test needs.
    pub(crate) root: PathBuf,
    pub(crate) dir: TempDir,
    pub(crate) mark: String,
    /// Those who have an environment by now.
    people: Vec<(String, Person)>,
    begun: Instant,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let begun = Instant::now();
        let mut kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [root, scratch, folder] =
            ["users", "storage", "instance"].map(|name| dir.path().join(name));
        for made in [&root, &scratch, &folder] {
            fs::create_dir(made).expect("a directory");
        }
        // For passing through, as the gateway makes it.
        mount(&["-t", "tmpfs", "-o", "size=4m,mode=711", "none"], &root);
        let storage = Storage::new(&root, &scratch)?;
        kit.openclaw_password = secret::random()?;
        let (instance, partner) = tokio::try_join!(
            OpenClaw::start(kit.install.clone(), &folder, &kit.openclaw_password),
            OtherIssuer::start(&kit.install, dir.path()),
        )?;
        let link = Link::to(instance.url().trim_start_matches("http://")).await?;
        kit.openclaw = link.url();
        let mut config = Config::new(&kit, dir.path())?;
        let second = format!(
            "\n[[issuer]]\nalias = \"partner\"\nurl = \"{}\"\naudience = \"openclaw\"\n\n[roles]",
            partner.url()
        );
        config.text = config.text.replacen("\n[roles]", &second, 1);
        config.env.extend(storage.env());
        let gateway = Gateway::start(config, dir.path()).await?;
        Ok(Self {
            mark: secret::mark()?,
            people: Vec::new(),
            kit,
            gateway,
            instance,
            link,
            partner,
            storage,
            root,
            dir,
            begun,
        })
    }

    /// Somebody new, and their user id.
    pub(crate) async fn newcomer(&self, name: &str) -> Result<(Person, String)> {
        let user = format!("{name}-{}", self.mark);
        let person = Person::sign_in(&self.kit, &user, &self.gateway).await?;
        Ok((person, user))
    }

    /// Lets somebody in, who has a whole environment then.
    pub(crate) async fn let_in(&mut self, person: &Person, user: &str) -> Result<()> {
        person.open().await?;
        self.assert_whole(user);
        self.people.push((user.to_owned(), person.clone()));
        Ok(())
    }

    /// One of each kind, all at once: the first message to an agent takes the instance seconds.
    pub(crate) async fn who_was_let_in_chats(&self) -> Result<()> {
        let is_one = |user: &str| CHATTING.iter().any(|name| user.starts_with(name));
        let some = self.people.iter().filter(|(user, _)| is_one(user));
        let talks = some.map(async |(user, person)| {
            let mut socket = person.open().await?;
            socket.ws = socket.ws.with_limit(PATIENCE);
            let turn = socket.turn("hello").await?;
            assert_eq!(turn.state, "final", "{user}: {}", turn.text);
            Ok::<_, gateway_tests::error::Error>(())
        });
        let talked = try_join_all(talks).await?;
        assert_eq!(talked.len(), CHATTING.len());
        Ok(())
    }

    /// The agents that the instance has, beside its own.
    pub(crate) async fn agents(&self) -> Result<Vec<String>> {
        let (mut operator, _) = self.instance.operator(&["operator.read"]).await?;
        let list = operator.call("agents.list", json!({})).await?;
        let agents = list["agents"].as_array().into_iter().flatten();
        let ids = agents.filter_map(|agent| agent["id"].as_str().map(str::to_owned));
        Ok(ids.filter(|id| id != "main").collect())
    }

    /// Whether somebody has an environment that the store takes for whole; `None`: it knows of none.
    pub(crate) fn stored(&self, user: &str) -> Option<bool> {
        let ready = "SELECT max(agent_ready_at IS NOT NULL) FROM user_openclaw_environments WHERE user_id = ?1";
        self.query::<Option<bool>>(ready, user)
    }

    /// How many keys of somebody are in force.
    pub(crate) fn keys(&self, user: &str) -> i64 {
        let keys = "SELECT count(*) FROM virtual_keys WHERE user_id = ?1 AND revoked_at IS NULL";
        self.query(keys, user)
    }

    fn query<T: rusqlite::types::FromSql>(&self, sql: &str, user: &str) -> T {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = Connection::open_with_flags(self.dir.path().join("gateway.db"), flags);
        let store = store.expect("the store");
        store
            .query_row(sql, [user], |row| row.get(0))
            .expect("an answer")
    }

    pub(crate) fn profile(&self, user: &str) -> PathBuf {
        let directory = self.root.join(user);
        directory.join(format!(".openclaw/profiles/user-{user}.yml"))
    }

    /// That all is there of somebody whose id is the name of their directory, and nothing that was left over.
    pub(crate) fn assert_whole(&self, user: &str) {
        assert_eq!(self.stored(user), Some(true), "{user}");
        assert_eq!(self.keys(user), 1, "{user}");
        let directory = self.root.join(user);
        for name in TREE {
            assert!(directory.join(name).exists(), "{user}: {name}");
        }
        let text = |path: &Path| fs::read_to_string(path).expect("a file");
        assert_eq!(
            text(&directory.join(".openclaw/owner")),
            format!("{user}\n")
        );
        assert!(text(&self.profile(user)).contains(user));
        for name in ["", ".openclaw", ".openclaw/profiles", "workspace"] {
            for entry in fs::read_dir(directory.join(name)).expect("a directory") {
                let name = entry.expect("an entry").file_name();
                assert!(!name.to_string_lossy().contains("draft"), "{name:?}");
            }
        }
    }

    /// What the gateway has logged since `before`, and how much that is by now.
    pub(crate) fn log_since(&self, before: usize) -> Result<(String, usize)> {
        let log = self.gateway.log()?;
        let since = log.get(before..).unwrap_or_default().to_owned();
        Ok((since, log.len()))
    }

    pub(crate) fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.root);
    }

    pub(crate) fn set_mode(&self, mode: u32) {
        let set = fs::set_permissions(&self.root, Permissions::from_mode(mode));
        set.expect("a mode of ours");
    }

    /// Takes all the room that there is.
    pub(crate) fn fill(&self) -> File {
        let filler = self.root.join(".filler");
        let mut filler = File::create(filler).expect("a file");
        while filler.write_all(&[0; 4096]).is_ok() {}
        filler
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.root.join(".filler")).expect("the filler");
    }

    pub(crate) fn say(&self, what: &str) {
        println!("  {:5.1} s: {what}", self.begun.elapsed().as_secs_f32());
    }
}

fn mount(arguments: &[&str], at: &Path) {
    let mounted = Command::new("mount").args(arguments).arg(at).status();
    assert!(
        mounted.expect("mount").success(),
        "this system lets nobody mount {arguments:?}"
    );
}
