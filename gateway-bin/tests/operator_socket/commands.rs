//! Whatever can be done by the administration's API can be done by a command.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};

use crate::fixture::{Fixture, command};

/// A socket before that of a gateway, which remembers what is asked.
struct Recorder {
    path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start(dir: &Path, gateway: PathBuf) -> Self {
        let path = dir.join("recorder.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = UnixStream::connect(&gateway).await.unwrap();
                    tokio::spawn(pass_on(client, server, Arc::clone(&asked)));
                }
            }
        });
        Self { path, asked }
    }

    /// Methods and paths, without queries.
    fn take(&self) -> Vec<(String, String)> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let lines = asked.iter().flat_map(|text| text.lines());
        let requests = lines.filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        requests
            .map(|request| {
                let (method, target) = request.split_once(' ').unwrap();
                let path = target.split('?').next().unwrap();
                (method.to_owned(), path.to_owned())
            })
            .collect()
    }
}

async fn pass_on(client: UnixStream, server: UnixStream, asked: Arc<Mutex<Vec<String>>>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
    let mut read = vec![0; 64 * 1_024];
    while let Ok(length @ 1..) = from_client.read(&mut read).await {
        let (part, _) = read.split_at(length);
        // Before the answer, so that it is there when the command has ended.
        let text = String::from_utf8_lossy(part).into_owned();
        asked.lock().unwrap().push(text);
        to_server.write_all(part).await.unwrap();
    }
}

/// Whether a path is one of a template's.
fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template
            .zip(path)
            .all(|(own, other)| own.starts_with('{') || own == other)
}

/// What is there, or not: what matters is what is asked.
const COMMANDS: [&str; 50] = [
    "alerts list",
    "alerts acknowledge any",
    "alerts resolve any",
    "audit list",
    "audit export",
    "counters list",
    "counters forget any",
    "instances list",
    "instances add two http://127.0.0.1:2 --password-file key",
    "instances drain two",
    "instances resume two",
    "instances unassign alice two",
    "instances remove two",
    "keys list alice",
    "keys revoke alice any",
    "keys rotate",
    "log",
    "log info",
    "log --user alice",
    "prices list",
    "quotas list",
    "quotas plans",
    "quotas set alice calls/day=5",
    "quotas show alice",
    "quotas explain alice",
    "quotas grant alice calls/day=3 --for 7d",
    "quotas reset alice",
    "sessions list alice",
    "sessions end alice any",
    "sessions end alice --all",
    "usage show",
    "usage show alice",
    "usage records",
    "usage records alice",
    "usage export --output usage.csv",
    "usage export alice --output alice.csv",
    "usage reprice",
    "usage reconcile",
    "usage reconcile alice",
    "users list",
    "users disable alice",
    "users enable alice",
    "users link alice corp any",
    "users snapshot alice",
    "users snapshots alice",
    "users export alice --output alice.tar",
    "users delete alice",
    "virtual-keys list",
    "virtual-keys rotate alice",
    "virtual-keys revoke alice",
];

#[tokio::test]
async fn every_route_of_the_administration_has_a_command() {
    let mut fixture = Fixture::new();
    fixture.start().await;
    let document = fixture.ask(Method::GET, "/openapi.json", None).await;
    let document = document.unwrap();
    let paths = document.get("paths").and_then(Value::as_object).unwrap();
    let routes: BTreeSet<(String, &str)> = paths
        .iter()
        .filter(|(path, _)| path.starts_with("/api/admin/"))
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.as_str()))
        })
        .collect();
    assert!(routes.len() > 40, "{routes:?}");

    let recorder = Recorder::start(fixture.dir.path(), fixture.socket());
    let mut asked = BTreeSet::new();
    for arguments in COMMANDS {
        let mut run = command(fixture.dir.path());
        run.args(arguments.split(' '));
        run.arg("--json").arg("--socket").arg(&recorder.path);
        let output = run.output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(2), "{arguments}: {error}");
        let requests = recorder.take();
        assert!(
            !requests.is_empty(),
            "{arguments} asks for nothing: {error}"
        );
        for (method, path) in requests {
            // One that has no parameter there is meant before one that has.
            let of_path = routes
                .iter()
                .filter(|(own, route)| *own == method && fits(route, &path));
            let route = of_path.min_by_key(|(_, route)| route.matches('{').count());
            let route = route.unwrap_or_else(|| panic!("{arguments}: {method} {path}"));
            asked.insert(route.clone());
        }
        // A line each, or one value.
        let said = String::from_utf8(output.stdout).unwrap();
        let mut values = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
        assert!(values.all(|value| value.is_ok()), "{arguments}: {said}");
        if output.status.success() && !arguments.contains("audit export") {
            assert!(
                !said.trim().is_empty(),
                "{arguments} says nothing by --json"
            );
        }
    }
    let without: Vec<_> = routes.difference(&asked).collect();
    assert_eq!(
        without,
        Vec::<&(String, &str)>::new(),
        "no command asks for these"
    );
}
