use std::{sync::Arc, time::Duration};

use fred::types::scripts::Script;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    epoch::{Begun, Epoch},
    link::Link,
    members::Members,
    names::Names,
};
use crate::StoreError;

/// The epoch as the server has it, and those who count for the next one.
///
/// One server has it once, and each decision looks at it. In a Cluster a script sees the keys of one slot only, and each
/// server can lose its own: so there are copies, on all of them, which are looked at every second.
pub(super) struct Epochs {
    link: Arc<Link>,
    first: Script,
    members: Script,
    copy: Script,
    key: String,
    coming: String,
    roll: String,
    run: String,
    copies: Vec<String>,
}

/// A task that looks at the copies until it is dropped.
pub(super) struct Watch(JoinHandle<()>);

/// How long each step may take that no decision waits for.
const STEP: Duration = Duration::from_secs(2);

/// How often the copies are looked at.
const EVERY: Duration = Duration::from_secs(1);

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
            members: Script::from_lua(include_str!("lua/members.lua")),
            copy: Script::from_lua(include_str!("lua/copy.lua")),
            key: names.epoch(),
            coming: names.coming_epoch(),
            roll: names.members(),
            run: names.run(),
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn coming_key(&self) -> &str {
        &self.coming
    }

    /// The epoch that a client begins with. Where there is none, it begins one if it may.
    pub(super) async fn at_connection(&self, begins: bool) -> Result<Epoch, StoreError> {
        let first = match begins {
            true => Begun::first().to_string(),
            false => String::new(),
        };
        let keys = vec![self.key.clone(), self.coming.clone()];
        let found = self.find(keys, &first).await?;
        if !first.is_empty() && found == first {
            for copy in &self.copies {
                self.find(vec![copy.clone()], &first).await?;
            }
        }
        // Who awaits reseeding has not counted yet.
        let own = Begun::parse(&found).filter(|_| begins);
        let epoch = Epoch::new(own, begins);
        // Whether copies are still to come will be seen.
        let _ = self.compare(&epoch, &found).await;
        Ok(epoch)
    }

    /// Whether the epoch is one in which this client may decide; it goes by another one if that was reseeded.
    pub(super) async fn look(&self, epoch: &Epoch) -> Result<(), StoreError> {
        let found = self.find(vec![self.key.clone()], "").await?;
        self.compare(epoch, &found).await
    }

    async fn compare(&self, epoch: &Epoch, found: &str) -> Result<(), StoreError> {
        match self.is_whole(found).await? {
            true => epoch.found(found),
            false => epoch.found(""),
        }
    }

    /// Whether all copies are of this epoch. One that says otherwise is enough, whatever the others say or do not.
    pub(super) async fn is_whole(&self, epoch: &str) -> Result<bool, StoreError> {
        let mut silent = None;
        for copy in &self.copies {
            match self.find(vec![copy.clone()], "").await {
                Ok(other) if other == epoch => {}
                Ok(_) => return Ok(false),
                Err(error) => silent = Some(error),
            }
        }
        silent.map_or(Ok(true), Err)
    }

    /// What the first of the keys says, or will from now on if it says nothing.
    async fn find(&self, keys: Vec<String>, or_else: &str) -> Result<String, StoreError> {
        let args = vec![or_else.to_owned()];
        let answer = self.link.ask(&self.first, keys, args, until()).await?;
        Ok(answer.epoch().to_owned())
    }

    /// Who counts, and for which epoch.
    pub(super) async fn members(&self) -> Result<Members, StoreError> {
        let answer = self.step(vec!["look".to_owned()]).await?;
        Ok(answer.members())
    }

    /// Has `member` count for the epoch that is to come, in the place of the one that is `lost`. `None`: there is another by
    /// now.
    pub(super) async fn begin(
        &self,
        member: &str,
        lost: &str,
        known: &[String],
    ) -> Result<Option<Begun>, StoreError> {
        let coming = Begun::again().to_string();
        let args = ["begin", member, &coming, lost];
        let mut args = args.map(str::to_owned).to_vec();
        args.extend_from_slice(known);
        let answer = self.step(args).await?;
        Ok(match &*answer.word {
            "done" => Begun::parse(answer.epoch()),
            _ => None,
        })
    }

    /// That `member` has counted everything for the epoch that is to come.
    pub(super) async fn done(&self, member: &str, coming: Begun) -> Result<bool, StoreError> {
        self.change("done", member, coming).await
    }

    /// That `member` has counted everything for the present epoch.
    pub(super) async fn enter(&self, member: &str, epoch: &str) -> Result<bool, StoreError> {
        let args = ["enter", member, epoch].map(str::to_owned).to_vec();
        Ok(self.step(args).await?.word == "done")
    }

    /// Does not wait for `member` any more.
    pub(super) async fn forget(&self, member: &str) -> Result<(), StoreError> {
        let args = ["forget", member].map(str::to_owned).to_vec();
        self.step(args).await.map(drop)
    }

    /// Begins the epoch for which all have counted. Copies come first: with them alone nobody decides.
    pub(super) async fn publish(&self, coming: Begun) -> Result<bool, StoreError> {
        for copy in &self.copies {
            let (keys, args) = (vec![copy.clone()], vec![coming.to_string()]);
            self.link.ask(&self.copy, keys, args, until()).await?;
        }
        self.change("publish", "", coming).await
    }

    async fn change(&self, step: &str, member: &str, coming: Begun) -> Result<bool, StoreError> {
        let args = [step, member, &coming.to_string()].map(str::to_owned);
        let answer = self.step(args.to_vec()).await?;
        Ok(answer.word == "done")
    }

    async fn step(&self, args: Vec<String>) -> Result<super::answer::Answer, StoreError> {
        let keys = [&self.key, &self.coming, &self.roll, &self.run];
        let keys = keys.map(String::clone).to_vec();
        self.link.ask(&self.members, keys, args, until()).await
    }
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
