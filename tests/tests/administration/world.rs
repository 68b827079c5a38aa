//! A gateway, people who have something there, and what they ask.

use std::fs;

use ::http::{Method, Request, StatusCode, header};
use gateway::api::Access;
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http::{self, Response},
    kit::Kit,
    person::Person,
    secret,
};
use serde_json::{Value, json};

use crate::rows::Row;

pub(crate) struct World {
    gateway: Gateway,
    pub(crate) alice: Somebody,
    pub(crate) bob: Somebody,
    pub(crate) admin: Somebody,
    pub(crate) names: Names,
    keys: Keys,
    _dir: tempfile::TempDir,
}

/// A browser in which somebody has signed in.
pub(crate) struct Somebody {
    browser: Browser,
    url: String,
}

/// What is there, by name.
#[derive(Clone)]
pub(crate) struct Names {
    user: String,
    session: String,
    key: String,
    /// Another of the same person's.
    own_key: String,
    alert: String,
    /// A file of the page.
    asset: String,
}

/// Personal access tokens.
struct Keys {
    read: String,
    chat: String,
    everything: String,
    administrators: String,
}

const ISSUER: &str = r#"
[[issuer]]
alias = "other"
url = "http://127.0.0.1:1"
audience = "openclaw"
"#;

/// What is another one whenever somebody comes.
const MOVES: [&str; 3] = ["lastLoginAt", "lastSeenAt", "lastUsedAt"];

/// A refusal says why.
pub(crate) fn assert_refused(answer: &Response, status: StatusCode, what: &str) {
    assert_eq!(answer.status, status, "{what}");
    let error = answer.json().unwrap_or_default();
    let says = |name: &str| {
        error["error"][name]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    };
    // OpenAI's API has its own form.
    let has_rest = match what.contains(" /v1/") {
        true => says("type") && error["error"].get("param").is_some(),
        false => error["error"]["details"].is_object(),
    };
    let is_whole = says("code") && says("message") && has_rest;
    assert!(is_whole, "{what}: {}", answer.text());
}

// === impl World ===

impl World {
    /// Somebody with a session, keys, an environment and an alert.
    pub(crate) async fn new() -> Result<Self> {
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(&kit, dir.path())?;
        let workspace = "[workspace]\nmaster_key_file = \"master\"\n";
        config.text = config.text.replacen("[workspace]\n", workspace, 1);
        config.text.push_str(ISSUER);
        fs::write(dir.path().join("master"), secret::hex_key()?).expect("a master key");
        let gateway = Gateway::start(config, dir.path()).await?;
        let mark = secret::mark()?;
        let user = format!("alice-{mark}");
        let mut alice = Somebody::sign_in(&gateway, &user).await?;
        let bob = Somebody::sign_in(&gateway, &format!("bob-{mark}")).await?;
        let mut admin = Somebody::sign_in(&gateway, "admin").await?;

        let limit = json!({
            "version": 0, "limits": [{"dimension": "tokens", "window": "day", "limit": 1_000}],
        });
        let quota = format!("/api/admin/users/{user}/quota");
        let set = admin.fetch(Method::PUT, &quota, &limit.to_string()).await?;
        set.expect_status(StatusCode::OK)?;
        let person = Person::sign_in(&kit, &user, &gateway).await?;
        let mut socket = person.open().await?;
        socket.turn("[[in=800]] [[out=50]] nearly all").await?;
        let is_told = |alerts: &Value| alerts["alerts"][0]["id"].is_string();
        let alerts = person.wait_for("/api/alerts", is_told).await?;
        let alert = alerts["alerts"][0]["id"].as_str().unwrap_or_default();

        let (read, key) = alice.key(&["read"]).await?;
        let (chat, own_key) = alice.key(&["chat"]).await?;
        let (everything, _) = alice.key(&["read", "chat"]).await?;
        let (administrators, _) = admin.key(&["read", "chat"]).await?;
        let sessions = admin
            .get(&format!("/api/admin/users/{user}/sessions"))
            .await?;
        let session = sessions["sessions"][0]["id"].as_str().unwrap_or_default();
        let page = alice.fetch(Method::GET, "/", "").await?;
        let page = page.expect_status(StatusCode::OK)?.text();
        let (_, asset) = page.split_once("assets/").unwrap_or_default();
        let (asset, _) = asset.split_once('"').unwrap_or_default();
        let names = Names {
            asset: asset.to_owned(),
            session: session.to_owned(),
            alert: alert.to_owned(),
            user,
            key,
            own_key,
        };
        Ok(Self {
            gateway,
            alice,
            bob,
            admin,
            names,
            keys: Keys {
                read,
                chat,
                everything,
                administrators,
            },
            _dir: dir,
        })
    }

    /// All that could have been changed, and what is noted of changes.
    pub(crate) async fn picture(&mut self) -> Result<Value> {
        let mut picture = vec![self.alice.get("/api/keys").await?];
        let user = &self.names.user;
        for path in [
            "/api/admin/audit",
            "/api/admin/users",
            "/api/admin/instances",
            "/api/admin/quotas",
            "/api/admin/alerts",
            "/api/admin/virtual-keys",
            "/api/admin/counters",
            &format!("/api/admin/users/{user}/sessions"),
            &format!("/api/admin/users/{user}/snapshots"),
            &format!("/api/admin/users/{user}/quota"),
        ] {
            picture.push(self.admin.get(path).await?);
        }
        let mut picture = Value::from(picture);
        hold_still(&mut picture);
        Ok(picture)
    }

    /// What a program is answered, which has this token, or none.
    pub(crate) async fn by_token(&self, token: Option<&str>, row: &Row) -> Result<Response> {
        let url = self.gateway.url(&self.names.path(row));
        let mut request = Request::builder().method(row.method.clone()).uri(url);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !row.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        http::send(request, row.body).await
    }

    /// A key that was made for something else.
    pub(crate) fn key_not_for(&self, access: Access) -> &str {
        match access {
            Access::Scope("read") => &self.keys.chat,
            Access::Scope(_) => &self.keys.read,
            _ => &self.keys.everything,
        }
    }

    pub(crate) fn key_for(&self, scope: &str) -> &str {
        match scope {
            "read" => &self.keys.read,
            _ => &self.keys.everything,
        }
    }

    pub(crate) fn administrators_key(&self) -> &str {
        &self.keys.administrators
    }
}

fn hold_still(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !MOVES.contains(&&**name));
            members.values_mut().for_each(hold_still);
        }
        Value::Array(values) => values.iter_mut().for_each(hold_still),
        _ => {}
    }
}

// === impl Somebody ===

impl Somebody {
    async fn sign_in(gateway: &Gateway, account: &str) -> Result<Self> {
        let mut browser = Browser::new();
        browser.sign_in_at(gateway, account).await?;
        let url = gateway.url("");
        Ok(Self { browser, url })
    }

    pub(crate) async fn ask(&mut self, names: &Names, row: &Row) -> Result<Response> {
        let path = names.path(row);
        self.fetch(row.method.clone(), &path, row.body).await
    }

    async fn fetch(&mut self, method: Method, path: &str, body: &str) -> Result<Response> {
        let url = format!("{}{path}", self.url);
        self.browser.fetch(method, &url, body).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        let answer = self.fetch(Method::GET, path, "").await?;
        answer.expect_status(StatusCode::OK)?.json()
    }

    /// Makes a personal access token; the token, and its id.
    async fn key(&mut self, scopes: &[&str]) -> Result<(String, String)> {
        let wanted = json!({"name": "matrix", "scopes": scopes}).to_string();
        let made = self.fetch(Method::POST, "/api/keys", &wanted).await?;
        let made = made.expect_status(StatusCode::CREATED)?.json()?;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Ok((text("token"), text("id")))
    }
}

// === impl Names ===

impl Names {
    /// The names that whoever they belong to may spend.
    pub(crate) fn of_the_owner(&self) -> Self {
        Self {
            key: self.own_key.clone(),
            ..self.clone()
        }
    }

    /// The path of a row, with what is there in it.
    fn path(&self, row: &Row) -> String {
        let (kind, _) = row.path.split_once("/{id}").unwrap_or_default();
        let id = match kind.rsplit('/').next() {
            Some("alerts") => &self.alert,
            Some("sessions") => &self.session,
            _ => &self.key,
        };
        // One that was added is removed; what stands in the file is drained.
        let name = match row.method {
            Method::DELETE => "added",
            _ => "pool-1",
        };
        let path = row
            .path
            .replace("{user_id}", &self.user)
            .replace("{id}", id);
        let path = path.replace("{name}", name).replace("{member}", "nobody");
        let file = match path.starts_with("/assets/") {
            true => &self.asset,
            false => "any",
        };
        let path = path.replace("{*name}", "openclaw").replace("{*rest}", file);
        assert!(!path.contains('{'), "say what is put into {path}");
        path + row.query
    }
}
