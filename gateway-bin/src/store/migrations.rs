/// What each version of the store's tables added, the first one first. Each kind of store has its statements.
pub const MIGRATIONS: [&str; 14] = [
    "people, environments, keys, limits and alerts",
    "places on instances",
    "people of other issuers",
    "grants and plans",
    "deliveries of alerts",
    "shared counters and leases",
    "people's own provider keys",
    "instances that call models themselves",
    "drained instances",
    "deletions and snapshots",
    "agents of virtual keys",
    "instances that administrators add",
    "operating-system users of cells",
    "administrative acts",
];

/// The version of the tables that this gateway works with.
#[expect(clippy::cast_possible_truncation, reason = "there are not that many")]
pub const TABLES: u32 = MIGRATIONS.len() as u32;
