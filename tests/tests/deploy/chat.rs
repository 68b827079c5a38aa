//! People sign in and chat through nginx, by TLS, while a gateway is restarted and nginx reloaded, and Prometheus looks on. At last
//! an OpenClaw is stopped, and the alert for it fires.

use std::time::Duration;

use gateway_tests::{
    browser::Browser,
    error::Result,
    person::{Person, Turn},
};
use http::Method;

use crate::{
    books::balance,
    client::{Client, Who},
    deployment::Deployment,
    forgeries,
    prometheus::Prometheus,
};

/// A reply of four seconds, and what it says.
const LONG: &str = "[[words=80]] [[chunk_delay=50]]";
const LONG_WORDS: usize = 80;

/// `InstanceDown` is raised after a minute; the rest is for the gateways to see it, and Prometheus.
const FIRES: Duration = Duration::from_secs(90);

/// Somebody with a session in a browser, and a token for what counts.
struct Visitor {
    name: &'static str,
    browser: Browser,
    person: Person,
    runs: Vec<String>,
}

// === impl Visitor ===

impl Visitor {
    /// Signs somebody in on the pages of the issuer. Their browser claims all the time to be somebody else, elsewhere.
    async fn sign_in(deployment: &Deployment, name: &'static str) -> Result<Self> {
        let mut browser = deployment.browser().saying(&forgeries::CLAIMS)?;
        let page = browser.open(&deployment.url("/chat")).await?;
        let login = page.header("location").unwrap_or_default();
        assert_eq!(login, "/auth/login?return_to=%2Fchat");
        let page = browser.open(&deployment.url(login)).await?;
        let issuer = page.header("location").unwrap_or_default();
        let back = deployment.url("/auth/callback");
        let back = back.replace(':', "%3A").replace('/', "%2F");
        assert!(issuer.starts_with(&deployment.kit.issuer), "{issuer}");
        assert!(
            issuer.contains(&format!("redirect_uri={back}&")),
            "{issuer}"
        );

        let info = deployment.url("/api/user/info");
        let start = deployment.url("/auth/login?return_to=/api/user/info");
        browser
            .sign_in(&start, &deployment.account(name), &info)
            .await?;
        let session = browser.cookie(&info, "__Host-session")?;
        assert!(
            session.is_some(),
            "a session is kept for a site with TLS alone"
        );
        let who = browser.fetch(Method::GET, &info, "").await?;
        assert_eq!(who.json()?["user_id"], deployment.account(name));
        Ok(Self {
            name,
            browser,
            person: deployment.person(name).await?,
            runs: Vec::new(),
        })
    }

    async fn open(&self, deployment: &Deployment) -> Result<Client> {
        let who = Who::Page(Box::new(self.browser.clone()), deployment.url(""));
        Client::open(who, 0).await
    }

    async fn start(
        &mut self,
        deployment: &Deployment,
        client: &mut Client,
        what: &str,
    ) -> Result<String> {
        let run = client.start(&deployment.message(self.name, what)).await?;
        self.runs.push(run.clone());
        Ok(run)
    }

    /// A message and the whole reply.
    async fn turn(
        &mut self,
        deployment: &Deployment,
        client: &mut Client,
        what: &str,
    ) -> Result<()> {
        let run = self.start(deployment, client, what).await?;
        is_final(&client.end_of(&run).await?);
        Ok(())
    }
}

fn is_final(turn: &Turn) {
    assert_eq!(turn.state, "final", "{}", turn.text);
}

/// By the rules as they are shipped, which wait for a minute.
async fn an_alert_says_which_instance_is_stopped(
    deployment: &mut Deployment,
    prometheus: &Prometheus,
) -> Result<()> {
    let name = deployment.stop_an_instance().await?;
    let alert = prometheus.fires("InstanceDown", FIRES).await?;
    assert_eq!(alert["labels"]["name"], name);
    assert_eq!(alert["labels"]["severity"], "critical");
    let summary = &alert["annotations"]["summary"];
    assert_eq!(*summary, format!("OpenClaw {name} does not serve people"));
    let firing = prometheus.firing().await?;
    assert_eq!(firing.len(), 1, "nothing else is wrong: {firing:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_chat_while_a_gateway_is_restarted_and_nginx_reloaded() -> Result<()> {
    let mut deployment = Deployment::start().await?;
    let prometheus = deployment.prometheus().await?;
    let mut alice = Visitor::sign_in(&deployment, "alice").await?;
    let mut bob = Visitor::sign_in(&deployment, "bob").await?;
    let mut hers = alice.open(&deployment).await?;
    let at = deployment.sockets().await?;
    let at = at.iter().position(|sockets| *sockets == 1);
    let at = at.expect("one gateway has it");
    let mut his = bob.open(&deployment).await?;
    let each = deployment.sockets().await?;
    assert_eq!(each, [1, 1], "who has fewer gets the next");
    alice.turn(&deployment, &mut hers, "one").await?;
    bob.turn(&deployment, &mut his, "two").await?;
    let place = async |person: &Person| {
        let status = person.get("/api/openclaw/status").await?;
        Ok(status["instance"]["name"].clone())
    };
    let places = [place(&alice.person).await?, place(&bob.person).await?];
    assert_ne!(places[0], places[1], "two people, two instances");

    // In the middle of a reply, of her gateway and of the worker of nginx that has both sockets.
    let run = alice.start(&deployment, &mut hers, LONG).await?;
    hers.begin_of(&run).await?;
    deployment.nginx.reload().await?;
    let gateway = &mut deployment.gateways[at];
    let (restarted, turn) = tokio::join!(gateway.restart(), hers.end_of(&run));
    restarted?;
    let turn = turn?;
    is_final(&turn);
    let words: Vec<_> = (1..=LONG_WORDS).map(|n| format!("word{n}")).collect();
    assert_eq!(turn.text, words.join(" "), "no word is lost");
    assert_eq!(hers.codes, [1012], "she was told to come again");
    alice.turn(&deployment, &mut hers, "three").await?;
    bob.turn(&deployment, &mut his, "four").await?;
    assert_eq!(his.codes, [0; 0], "his socket is that of before");

    let run = forgeries::nobody_becomes_another(&deployment, "alice", &alice.person).await?;
    alice.runs.push(run);
    for somebody in [&alice, &bob] {
        let Visitor {
            name, person, runs, ..
        } = somebody;
        let used = balance(&deployment, name, person, runs).await?;
        assert!(used.total() > 0, "{name}");
    }
    forgeries::nobody_is_elsewhere(&deployment).await?;
    // How fast things go is asked of the last minute.
    let mut another = alice.open(&deployment).await?;
    alice.turn(&deployment, &mut another, "six").await?;
    prometheus.answers_everything().await?;
    drop((hers, his, another));
    an_alert_says_which_instance_is_stopped(&mut deployment, &prometheus).await?;
    deployment.stop().await
}
