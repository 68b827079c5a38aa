//! What the stacks are built from in tests: everything in memory.

use std::sync::{Arc, Mutex};

use gateway::egress::VirtualKeys;
use gateway::prices::price_list;
use gateway::stack::Parts;
use tower_quota::{Dimension, Limit, Limits, MemoryStore, OnStoreFailure, Window};
use tower_sso::{Reason, VerifyError, VerifyFuture};
use tower_usage::{Sink, UsageRecord};
use tower_workspace::{ResolveError, ResolveFuture, Workspace};

/// Keeps records for the test to read.
#[derive(Default)]
pub(crate) struct Records(Mutex<Vec<UsageRecord>>);

impl Sink for Records {
    fn admit(&self) -> Result<(), tower_usage::Full> {
        Ok(())
    }

    fn record(&self, record: UsageRecord) {
        self.0.lock().unwrap().push(record);
    }

    fn forgo(&self, _: Option<tower_usage::RecordId>) {}
}

impl Records {
    pub(crate) fn take(&self) -> Vec<UsageRecord> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) struct Fixture {
    pub(crate) parts: Parts,
    pub(crate) records: Arc<Records>,
    pub(crate) quota: Arc<MemoryStore>,
}

/// Alice with a workspace, five tokens, a cent and one call a day; nobody else has anything.
pub(crate) fn fixture(keys: VirtualKeys) -> Fixture {
    let limits = [
        Limit::at_most(Dimension::Tokens, Window::Day, 5),
        Limit::at_most(Dimension::Cost, Window::Day, 10_000_000),
        Limit::at_most(Dimension::Calls, Window::Day, 1),
    ];
    let quota = Arc::new(MemoryStore::new(Limits::new(limits).unwrap()));
    let records = Arc::new(Records::default());
    let workspaces = |user: &Arc<str>| {
        ResolveFuture::ready(match &**user {
            "alice" => {
                let workspace = Workspace::new("alice", "/srv/users").unwrap();
                Ok(Arc::new(workspace.with_slot("user-alice")))
            }
            _ => Err(ResolveError::NotProvisioned),
        })
    };
    let prices: Vec<gateway::config::Price> =
        vec![toml::from_str("model = \"m\"\ninput = \"1.00\"\noutput = \"2.00\"").unwrap()];
    let parts = Parts {
        tokens: Arc::new(|_: &str| VerifyFuture::ready(Err(VerifyError::Invalid(Reason::Unknown)))),
        virtual_keys: Arc::new(keys),
        is_disabled: Arc::new(|_| false),
        workspaces: Arc::new(workspaces),
        quota: quota.clone(),
        on_store_failure: OnStoreFailure::Closed,
        ledger: records.clone(),
        prices: price_list(&prices, &Default::default()).unwrap().into(),
        run_prepared: Arc::new(|_| {}),
    };
    Fixture {
        parts,
        records,
        quota,
    }
}
