//! What the server is asked.

use super::exchange::Operation;

/// Makes what is missing. Several gateways may start at once: one after the other.
///
/// The functions bear their version in their names, so that an upgrade can go on while gateways of the earlier one still
/// run: whoever changes a function gives all of them the next number.
pub(super) const MAKE: &str = concat!(
    "BEGIN; SELECT pg_advisory_xact_lock(7305792613150092);",
    include_str!("sql/tables.sql"),
    include_str!("sql/family.sql"),
    include_str!("sql/reserve.sql"),
    include_str!("sql/ticket.sql"),
    include_str!("sql/subject.sql"),
    include_str!("sql/sweep.sql"),
    "COMMIT;"
);

/// Whether everything was made. The last function is there if all are; tables may have been dropped without them.
pub(super) const IS_MADE: &str = "SELECT to_regprocedure('quota_sweep_1(jsonb)') IS NOT NULL
    AND to_regclass('quota_database') IS NOT NULL AND to_regclass('quota_accounts') IS NOT NULL
    AND to_regclass('quota_counters') IS NOT NULL AND to_regclass('quota_reservations') IS NOT NULL";

/// Which database it is, and what time it is there.
pub(super) const WHICH: &str = "SELECT id, quota_clock_1() FROM quota_database";

macro_rules! operation {
    ($function:literal, $is_repeatable:literal) => {
        Operation {
            statement: concat!("SELECT ", $function, "($1::jsonb)::text"),
            is_repeatable: $is_repeatable,
            undo: None,
        }
    };
}

/// It is undone by the same words.
pub(super) const RESERVE: Operation = Operation {
    undo: Some(RELEASE.statement),
    ..operation!("quota_reserve_1", true)
};

pub(super) const SETTLE: Operation = operation!("quota_settle_1", true);

pub(super) const RELEASE: Operation = operation!("quota_release_1", true);

pub(super) const RENEW: Operation = operation!("quota_renew_1", true);

pub(super) const STANDINGS: Operation = operation!("quota_standings_1", true);

pub(super) const COUNT: Operation = operation!("quota_count_1", true);

pub(super) const TERMS: Operation = operation!("quota_terms_1", true);

pub(super) const SET_TERMS: Operation = operation!("quota_set_terms_1", false);

pub(super) const SWEEP: Operation = operation!("quota_sweep_1", true);
