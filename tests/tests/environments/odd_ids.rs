//! People whose ids are paths, twins, devices, or longer than anybody's: each has a directory of their own directly below the
//! root, or a clear refusal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::try_join_all;
use gateway_tests::{
    error::{Error, Result},
    http,
    person::Person,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::world::World;

/// How long many who come at once may take together.
const PATIENCE: Duration = Duration::from_secs(180);

/// Subjects that are somebody. More of them are named in the tests of `tower-workspace`; each here is an agent.
const PEOPLE: [&str; 25] = [
    "..",
    ".",
    "a/b",
    "a\\b",
    "../alice",
    "/etc",
    "~",
    "CON",
    "con",
    "com1",
    "a",
    "a.",
    "-rf",
    "%2e%2e",
    "\u{1f600}",
    "caf\u{e9}",
    "cafe\u{301}",
    "alice",
    "Alice",
    "al\u{131}ce",
    "\u{430}lice",
    "auth0|123",
    // What means something here: the directory of `..`, a place, and who has one that is nobody's.
    "_l3a7pzya6n6d2czjqhieqvp4gs",
    "slot-001",
    "retired.slot-001",
];

/// Subjects that nobody has: nothing at all, white space at an end, what controls or shows nothing, what turns the direction.
const NOBODY: [&str; 12] = [
    "",
    " ",
    " alice",
    "alice ",
    "alice\u{a0}",
    "al\nice",
    "al\u{0}ice",
    "alice\u{0}",
    "alice\r",
    "al\u{202e}ice",
    "al\u{200b}ice",
    "al\u{ad}ice",
];

pub(crate) async fn tried(world: &World) -> Result<()> {
    let (before, mut there) = (outside(world), listing(&world.root));
    let template = claims(world).await?;
    let longest = "x".repeat(255);
    let subjects = PEOPLE.into_iter().chain([&*longest]);
    let ours = subjects.map(async |subject| {
        let token = ours(world, &template, subject).await?;
        Ok::<_, Error>((subject.to_owned(), initialize(world, token).await?))
    });
    let others = ["alice", ".."].map(async |subject| {
        let token = partners(world, subject).await?;
        let user = format!("partner|{subject}");
        Ok::<_, Error>((user, initialize(world, token).await?))
    });
    let (ours, others) = tokio::try_join!(try_join_all(ours), try_join_all(others))?;
    let mut directories = BTreeMap::new();
    for (user, (status, answer)) in ours.into_iter().chain(others) {
        assert_eq!(status, 200, "{user:?}: {answer}");
        let workspace = PathBuf::from(answer["workspaceDir"].as_str().expect("a directory"));
        let directory = workspace.parent().expect("the person's").to_owned();
        assert_eq!(workspace, directory.join("workspace"), "{user:?}");
        assert_eq!(directory.parent(), Some(&*world.root), "{user:?}");
        let name = directory.file_name().and_then(|name| name.to_str());
        assert!(name.is_some_and(is_safe), "{user:?}: {name:?}");
        let owner = fs::read_to_string(directory.join(".openclaw/owner"));
        assert_eq!(owner.expect("whose it is"), format!("{user}\n"));
        let taken = directories.insert(name.unwrap_or_default().to_owned(), user);
        assert_eq!(taken, None, "one directory for two");
    }
    assert_eq!(directories.len(), PEOPLE.len() + 3);
    nobody_is_let_in(world, &template).await?;

    // Nothing else was made, below the root and beside it, and agents work where their people are.
    let names: BTreeSet<String> = directories.into_keys().collect();
    there.extend(names.iter().cloned());
    assert_eq!(listing(&world.root), there);
    assert_eq!(outside(world), before);
    let (mut operator, _) = world.instance.operator(&["operator.admin"]).await?;
    let config = operator.call("config.get", json!({})).await?;
    let entries = config["config"]["agents"]["entries"].as_object();
    let entries = entries.into_iter().flatten();
    let workspaces = entries.filter_map(|(_, agent)| agent["workspace"].as_str());
    let workspaces: BTreeSet<&Path> = workspaces.map(Path::new).collect();
    let expected = names
        .iter()
        .map(|name| world.root.join(name).join("workspace"));
    for workspace in expected {
        assert!(workspaces.contains(&*workspace), "{workspace:?}");
        let disk = |path: &Path| fs::metadata(path).expect("a directory").dev();
        assert_eq!(disk(&workspace), disk(&world.root), "{workspace:?}");
    }

    let chats = ["..", "\u{1f600}", "slot-001"].map(async |subject| {
        let token = self::ours(world, &template, subject).await?;
        let mut socket = Person::with_token(token, &world.gateway).open().await?;
        let turn = socket.turn("hello").await?;
        assert_eq!(turn.state, "final", "{subject:?}: {}", turn.text);
        Ok::<_, Error>(())
    });
    try_join_all(chats).await.map(drop)
}

async fn nobody_is_let_in(world: &World, template: &Value) -> Result<()> {
    let (long, longer, longest) = ("x".repeat(256), "x".repeat(4096), "x".repeat(10_240));
    let subjects = NOBODY.into_iter().chain([&*long, &longer, &longest]);
    // Those of the other issuer, by their ids here.
    let subjects = subjects.chain(["partner|alice", "partner|"]);
    for subject in subjects {
        let token = ours(world, template, subject).await?;
        let (status, answer) = initialize(world, token.clone()).await?;
        assert_eq!(status, 401, "{subject:?}: {answer}");
        let refused = Person::with_token(token, &world.gateway).open().await;
        assert!(refused.is_err(), "{subject:?}");
    }
    for subject in [
        json!(["alice"]),
        json!({"id": "alice"}),
        json!(7),
        Value::Null,
    ] {
        let token = signed(world, template, subject.clone()).await?;
        let (status, answer) = initialize(world, token).await?;
        assert_eq!(status, 401, "{subject}: {answer}");
    }
    Ok(())
}

async fn initialize(world: &World, token: String) -> Result<(u16, Value)> {
    let url = world.gateway.url("/api/openclaw/initialize");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = http::post(&url, Some(&token), &json!({})).await?;
        // A busy instance may take longer for so many agents than anybody is kept waiting.
        if answer.status != 503 || Instant::now() > deadline {
            return Ok((answer.status.as_u16(), answer.json()?));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// What a token of the issuer says, but who it is of.
async fn claims(world: &World) -> Result<Value> {
    let token = world.kit.issuer().token("alice").await?;
    let payload = token.split('.').nth(1).expect("a payload");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let mut claims: Value = serde_json::from_slice(&payload).expect("JSON");
    let members = claims.as_object_mut().expect("claims");
    members.retain(|name, _| !["email", "email_verified", "name", "sub"].contains(&&**name));
    Ok(claims)
}

/// A token of the issuer, of somebody with that subject.
async fn ours(world: &World, template: &Value, subject: &str) -> Result<String> {
    signed(world, template, json!(subject)).await
}

async fn signed(world: &World, template: &Value, subject: Value) -> Result<String> {
    let mut claims = template.clone();
    claims["sub"] = subject;
    let issuer = world.kit.issuer();
    issuer
        .sign("RS256", &json!({"typ": "at+jwt"}), &claims)
        .await
}

/// A token of the other issuer.
async fn partners(world: &World, subject: &str) -> Result<String> {
    let claims = json!({
        "iss": world.partner.url(), "aud": "openclaw", "sub": subject, "exp": 4_000_000_000_u64, "iat": 1,
    });
    let header = json!({"typ": "at+jwt"});
    world.partner.mint("RS256", &header, &claims).await
}

/// Whether a name is one directory on every file system, and an option nowhere.
fn is_safe(name: &str) -> bool {
    let may_stand =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(may_stand)
}

fn listing(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// What there is beside the root: the names, and those of the system's root, at which `/etc` and `..` point.
fn outside(world: &World) -> Vec<BTreeSet<String>> {
    let beside = listing(world.dir.path());
    // SQLite comes and goes with these.
    let is_stores = |name: &String| name.ends_with("-wal") || name.ends_with("-shm");
    vec![
        beside.into_iter().filter(|name| !is_stores(name)).collect(),
        listing(Path::new("/")),
    ]
}
