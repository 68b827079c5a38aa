use std::{sync::Arc, time::Duration};

use fred::types::scripts::Script;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    epoch::{Begun, Epoch},
    link::Link,
    names::Names,
};
use crate::StoreError;

/// The epoch as the server has it.
///
/// One server has it once, and each decision looks at it. In a Cluster a script sees the keys of one slot only, and each
/// server can lose its own: so there are copies, on all of them, which are looked at every second.
pub(super) struct Epochs {
    link: Arc<Link>,
    first: Script,
    reseed: Script,
    key: String,
    claim: String,
    copies: Vec<String>,
}

/// A task that looks at the copies until it is dropped.
pub(super) struct Watch(JoinHandle<()>);

/// How long each step may take that no decision waits for.
const STEP: Duration = Duration::from_secs(2);

/// How often the copies are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How long somebody who reseeds may be still before another may begin, in milliseconds.
const CLAIMED: &str = "60000";

// === impl Epochs ===

impl Epochs {
    pub(super) fn new(link: Arc<Link>, names: &Names) -> Self {
        Self {
            copies: match link.is_clustered() {
                true => names.copies(),
                false => Vec::new(),
            },
            link,
            first: Script::from_lua(include_str!("lua/first_epoch.lua")),
            reseed: Script::from_lua(include_str!("lua/reseed.lua")),
            key: names.epoch(),
            claim: names.claim(),
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The epoch that a client begins with. Where there is none, it begins one if it may.
    pub(super) async fn at_connection(&self, begins: bool) -> Result<Epoch, StoreError> {
        let first = match begins {
            true => Begun::first().to_string(),
            false => String::new(),
        };
        let found = self.find(&self.key, &first).await?;
        if !first.is_empty() && found == first {
            for copy in &self.copies {
                self.find(copy, &first).await?;
            }
        }
        let epoch = Epoch::new(Begun::parse(&found));
        if !self.are_copies(&found).await? {
            // Whether they are still to come will be seen.
            let _ = epoch.found("");
        }
        Ok(epoch)
    }

    /// Whether the epoch is one in which this client may decide; it goes by another one if that was reseeded.
    async fn look(&self, epoch: &Epoch) -> Result<(), StoreError> {
        let found = self.find(&self.key, "").await?;
        match self.are_copies(&found).await? {
            true => epoch.found(&found),
            false => epoch.found(""),
        }
    }

    async fn are_copies(&self, of: &str) -> Result<bool, StoreError> {
        for copy in &self.copies {
            if self.find(copy, "").await? != of {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the key says, or will from now on if it says nothing.
    async fn find(&self, key: &str, or_else: &str) -> Result<String, StoreError> {
        let (keys, args) = (vec![key.to_owned()], vec![or_else.to_owned()]);
        let answer = self.link.ask(&self.first, keys, args, until()).await?;
        Ok(answer.epoch().to_owned())
    }

    /// Whether nobody else reseeds: then nobody else can for a minute.
    pub(super) async fn claim(&self, coming: Begun) -> Result<bool, StoreError> {
        self.reseed("claim", coming).await
    }

    /// The same of one that has claimed before.
    pub(super) async fn renew(&self, coming: Begun) -> Result<bool, StoreError> {
        self.reseed("renew", coming).await
    }

    pub(super) async fn give_up(&self, coming: Begun) -> Result<bool, StoreError> {
        self.reseed("give up", coming).await
    }

    /// Begins the epoch that was claimed. Copies come first: with them alone nobody decides.
    pub(super) async fn publish(&self, coming: Begun) -> Result<bool, StoreError> {
        if !self.renew(coming).await? {
            return Ok(false);
        }
        for copy in &self.copies {
            let (keys, args) = (vec![copy.clone(), copy.clone()], args("overwrite", coming));
            self.link.ask(&self.reseed, keys, args, until()).await?;
        }
        self.reseed("publish", coming).await
    }

    async fn reseed(&self, step: &str, coming: Begun) -> Result<bool, StoreError> {
        let keys = vec![self.key.clone(), self.claim.clone()];
        let answer = self
            .link
            .ask(&self.reseed, keys, args(step, coming), until())
            .await?;
        Ok(answer.word == "done")
    }
}

fn args(step: &str, coming: Begun) -> Vec<String> {
    vec![step.to_owned(), coming.to_string(), CLAIMED.to_owned()]
}

fn until() -> Instant {
    Instant::now() + STEP
}

// === impl Watch ===

impl Watch {
    pub(super) fn begin(epochs: Arc<Epochs>, epoch: Arc<Epoch>) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // What cannot be asked now is asked again; decisions say so themselves.
                let _ = epochs.look(&epoch).await;
            }
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}
