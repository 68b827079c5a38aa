//! Several instances behind one gateway: who is sent where, and who stays where they are.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::print_stdout, reason = "the numbers are for people")]

use std::{collections::BTreeMap, fmt::Write, fs, future::pending, path::Path, time::Duration};

use futures_util::future::try_join_all;
use gateway_tests::{
    error::{Error, Result},
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    openclaw::{OpenClaw, USER_HEADER},
    person::{Person, Socket},
    secret,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// People who come first, twenty for each instance.
const PEOPLE: usize = 60;

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(120);

/// An instance's name, and the key of somebody's main session there.
type Place = (String, String);

/// A gateway with three instances of its own: the shared one has the people of all other tests.
struct World {
    kit: Kit,
    gateway: Gateway,
    one: OpenClaw,
    two: OpenClaw,
    three: OpenClaw,
    admin: Person,
    /// Names of accounts begin with it.
    mark: String,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let mut kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (one, two, three) = tokio::try_join!(
            openclaw(&kit, dir.path(), "one"),
            openclaw(&kit, dir.path(), "two"),
            openclaw(&kit, dir.path(), "three"),
        )?;
        kit.openclaw = one.url();
        kit.openclaw_password = one.password().to_owned();
        let mut config = Config::new(&kit, dir.path())?;
        config.text = config
            .text
            .replacen("mode = \"pool\"", "mode = \"pool\"\ncapacity = 40", 1);
        for (name, instance) in [("pool-2", &two), ("pool-3", &three)] {
            // Writing to a String does not fail.
            let _ = write!(
                config.text,
                "\n[[instance]]\nname = \"{name}\"\nurl = \"{}\"\ncapacity = 40\n\
                 auth = {{ kind = \"trusted-proxy\", user_header = \"{USER_HEADER}\", password = \"{}\" }}\n",
                instance.url(),
                instance.password(),
            );
        }
        let gateway = Gateway::start(config, dir.path()).await?;
        let world = Self {
            admin: Person::sign_in(&kit, "admin", &gateway).await?,
            kit,
            gateway,
            one,
            two,
            three,
            mark: secret::mark()?,
            _dir: dir,
        };
        world
            .until("all three are ready", |instances| {
                instances.values().all(|instance| instance["ready"] == true)
            })
            .await?;
        Ok(world)
    }

    async fn person(&self, n: usize) -> Result<Person> {
        Person::sign_in(&self.kit, &format!("{}-{n}", self.mark), &self.gateway).await
    }

    /// What somebody's browser is shown.
    async fn page(&self, n: usize) -> Result<http::Response> {
        let bearer = format!("Bearer {}", self.person(n).await?.token);
        let page = ::http::Request::get(self.gateway.url("/")).header("accept", "text/html");
        http::send(page.header("authorization", bearer), "").await
    }

    /// Has somebody come, and says what place they have.
    async fn place(&self, n: usize) -> Result<Place> {
        let person = self.person(n).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = person.post("/api/openclaw/initialize", &json!({})).await?;
            if answer.status.is_success() {
                break;
            }
            if Instant::now() > deadline {
                return Err(Error::Late(PATIENCE, answer.text()));
            }
            sleep(Duration::from_millis(500)).await;
        }
        let status = person.get("/api/openclaw/status").await?;
        let credentials = person.get("/api/openclaw/credentials").await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok((
            text(&status["instance"]["name"]),
            text(&credentials["sessionKey"]),
        ))
    }

    async fn places(&self, people: std::ops::Range<usize>) -> Result<Vec<Place>> {
        try_join_all(people.map(|n| self.place(n))).await
    }

    /// Somebody new comes, and is sent to the one of these that is least taken.
    async fn newcomer(&self, places: &mut Vec<Place>, among: &[&str]) -> Result<()> {
        let before: Vec<_> = {
            let counted = counted(places);
            among.iter().map(|name| (counted[name], *name)).collect()
        };
        let place = self.place(places.len()).await?;
        let least = before.iter().min().map_or(0, |(people, _)| *people);
        let is_least = before.contains(&(least, &place.0));
        assert!(is_least, "{} of {before:?}", place.0);
        places.push(place);
        Ok(())
    }

    async fn instances(&self) -> Result<BTreeMap<String, Value>> {
        let answer = self.admin.get("/api/admin/instances").await?;
        let instances = answer["instances"].as_array().cloned().unwrap_or_default();
        let by_name = instances.into_iter().map(|instance| {
            let name = instance["name"].as_str().unwrap_or_default().to_owned();
            (name, instance)
        });
        Ok(by_name.collect())
    }

    async fn until(
        &self,
        what: &str,
        holds: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let instances = self.instances().await?;
            if holds(&instances) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Late(PATIENCE, format!("{what}: {instances:?}")));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn open(&self, n: usize) -> Result<Socket> {
        let person = self.person(n).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match person.open().await {
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(500)).await,
                opened => return opened,
            }
        }
    }
}

async fn openclaw(kit: &Kit, dir: &Path, name: &str) -> Result<OpenClaw> {
    let dir = dir.join(name);
    fs::create_dir(&dir).expect("a directory");
    OpenClaw::start(kit.install.clone(), &dir, &secret::random()?).await
}

fn counted(places: &[Place]) -> BTreeMap<&str, usize> {
    let mut counted = BTreeMap::new();
    for (instance, _) in places {
        *counted.entry(&**instance).or_insert(0) += 1;
    }
    counted
}

fn somebody_on(places: &[Place], instance: &str) -> usize {
    let mut people = places.iter();
    people
        .position(|(on, _)| on == instance)
        .expect("somebody is there")
}

/// Reads what comes to sockets, as a client at work does, while something happens.
async fn meanwhile<T>(sockets: [&mut Socket; 2], what: impl Future<Output = T>) -> T {
    let [a, b] = sockets;
    let read = async |socket: &mut Socket| {
        loop {
            match socket.ws.next().await {
                Ok(_) | Err(Error::Late(..)) => {}
                // Whoever looks at it next sees that it is gone.
                Err(_) => pending::<()>().await,
            }
        }
    };
    tokio::select! {
        done = what => done,
        () = read(a) => pending().await,
        () = read(b) => pending().await,
    }
}

async fn chats(socket: &mut Socket) -> Result<()> {
    let turn = socket.turn("hello there").await?;
    assert_eq!(turn.state, "final", "{}", turn.text);
    Ok(())
}

/// One instance is stopped and back, another drained, gone and its people sent elsewhere. Meanwhile people work on the
/// others, people come, and nobody is ever on an agent that is somebody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_a_place_and_keeps_it() -> Result<()> {
    let begin = Instant::now();
    let mut world = World::start().await?;
    println!("\nthree instances after {:?}", begin.elapsed());
    let mut places = world.places(0..PEOPLE).await?;
    println!(
        "{PEOPLE} people after {:?}: {:?}",
        begin.elapsed(),
        counted(&places)
    );
    for (instance, people) in counted(&places) {
        // All come at once; an instance that is too slow to say who is there gets fewer.
        assert!((15..=25).contains(&people), "{instance}: {people}");
    }
    let on = ["pool-1", "pool-2", "pool-3"].map(|instance| somebody_on(&places, instance));
    let [mut on_one, mut on_two, mut on_three] = [
        world.open(on[0]).await?,
        world.open(on[1]).await?,
        world.open(on[2]).await?,
    ];
    for socket in [&mut on_one, &mut on_two, &mut on_three] {
        chats(socket).await?;
    }

    let stopped = meanwhile([&mut on_one, &mut on_three], async {
        world.two.stop().await?;
        on_two.ws.closed().await
    });
    assert_eq!(stopped.await?.0, 1012, "its people are told to come again");
    let away = world.until("two is away", |instances| {
        instances["pool-2"]["ready"] == false
    });
    meanwhile([&mut on_one, &mut on_three], away).await?;
    let ready = http::get(&world.gateway.url("/readyz"), None).await?;
    assert!(ready.status.is_success(), "{}", ready.text());
    assert!(
        world.person(on[1]).await?.open().await.is_err(),
        "they wait for it"
    );
    let page = world.page(on[1]).await?;
    assert_eq!(page.status.as_u16(), 503, "{}", page.text());
    assert!(
        page.header("refresh").is_some(),
        "and see it when it is there"
    );
    assert!(page.text().contains("loads itself"), "{}", page.text());
    let come = async {
        for _ in 0..2 {
            world.newcomer(&mut places, &["pool-1", "pool-3"]).await?;
        }
        Ok::<_, Error>(())
    };
    meanwhile([&mut on_one, &mut on_three], come).await?;
    for socket in [&mut on_one, &mut on_three] {
        chats(socket).await?;
    }

    world.two.start_again().await?;
    // That took longer than who does not read is kept.
    let [mut on_one, mut on_three] = [world.open(on[0]).await?, world.open(on[2]).await?];
    let mut on_two = world.open(on[1]).await?;
    chats(&mut on_two).await?;
    assert_eq!(world.place(on[1]).await?, places[on[1]]);
    let page = world.page(on[1]).await?;
    assert!(page.status.is_success(), "{}", page.text());
    println!("one was stopped and is back after {:?}", begin.elapsed());

    let drain = "/api/admin/instances/pool-3/drain";
    let drained = world.admin.post(drain, &json!({})).await?;
    assert!(drained.status.is_success(), "{}", drained.text());
    let unknown = world
        .admin
        .post("/api/admin/instances/pool-9/drain", &json!({}))
        .await?;
    assert_eq!(unknown.status.as_u16(), 404);
    let come = async {
        let ready = |instances: &BTreeMap<String, Value>| instances["pool-2"]["ready"] == true;
        world.until("two is ready", ready).await?;
        for _ in 0..2 {
            world.newcomer(&mut places, &["pool-1", "pool-2"]).await?;
        }
        Ok::<_, Error>(())
    };
    meanwhile([&mut on_one, &mut on_two], come).await?;
    chats(&mut on_three).await?;
    assert_eq!(
        world.place(on[2]).await?,
        places[on[2]],
        "who was there stays"
    );

    let mut config = world.gateway.config().clone();
    let third = config
        .text
        .find("\n[[instance]]\nname = \"pool-3\"")
        .expect("it is there");
    config.text.truncate(third);
    world.gateway.reload(config)?;
    let (code, _) = on_three.ws.closed().await?;
    assert_eq!(code, 1012);
    for socket in [&mut on_one, &mut on_two] {
        chats(socket).await?;
    }
    assert!(
        world.person(on[2]).await?.open().await.is_err(),
        "their place is not there"
    );
    let moved = format!("{}-{}", world.mark, on[2]);
    let path = format!("/api/admin/users/{moved}/assignment?instance=pool-3");
    let url = world.gateway.url(&path);
    let bearer = format!("Bearer {}", world.admin.token);
    for status in [204, 404] {
        let delete = ::http::Request::delete(&*url).header("authorization", &*bearer);
        let unassigned = http::send(delete, "").await?;
        assert_eq!(unassigned.status.as_u16(), status, "{}", unassigned.text());
    }
    let (instance, session) = world.place(on[2]).await?;
    assert!(instance != "pool-3" && !places.contains(&(instance.clone(), session.clone())));
    chats(&mut world.open(on[2]).await?).await?;
    places[on[2]] = (instance, session);
    println!("one was drained and is gone after {:?}", begin.elapsed());

    // Where people prefer any place to none, they go where there is one.
    let mut config = world.gateway.config().clone();
    config
        .text
        .push_str("\n[routing]\naffinity = \"preferred\"\n");
    world.gateway.reload(config)?;
    world.gateway.restart().await?;
    world.two.stop().await?;
    world
        .until("two is away", |instances| {
            instances["pool-2"]["ready"] == false
        })
        .await?;
    let (instance, session) = world.place(on[1]).await?;
    assert!(instance == "pool-1" && !places.contains(&(instance.clone(), session.clone())));
    chats(&mut world.open(on[1]).await?).await?;
    places[on[1]] = (instance, session);
    for (n, place) in places.iter().enumerate() {
        let mut others = places.iter().enumerate().filter(|(other, _)| *other != n);
        assert!(others.all(|(_, other)| other != place), "{place:?}");
    }
    tokio::try_join!(world.one.stop(), world.three.stop())?;
    println!("all of it took {:?}", begin.elapsed());
    Ok(())
}
