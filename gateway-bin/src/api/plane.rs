//! Who may ask what.

use super::routes::Noted::{BeforeAndAfter, WithChange};
use super::routes::{Access, Route, Routes};
use super::{
    added_instances, admin, admin_keys, admin_plans, admin_prices, admin_quota, admin_quota_list,
    admin_quota_reset, alerts, audit, counters, health, instances, keys, log, openclaw,
    provider_key, quota, snapshots, usage, user, user_export, users, virtual_keys,
};
use crate::sign_in::scope;

/// All routes of the API.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = [
        open(),
        of_workspace(),
        for_chat(),
        read(),
        in_person(),
        administration(),
    ];
    all.iter().flat_map(Routes::declared).cloned().collect()
}

pub(super) fn open() -> Routes {
    Routes::new(Access::Anybody)
        .get("/health", health::alive)
        .get("/livez", health::alive)
        .get("/readyz", health::readyz)
}

/// What is asked of somebody's workspace.
pub(super) fn of_workspace() -> Routes {
    Routes::new(Access::Scope(scope::READ)).get("/api/openclaw/status", openclaw::status)
}

/// A password opens sockets.
pub(super) fn for_chat() -> Routes {
    Routes::new(Access::Scope(scope::CHAT)).get("/api/openclaw/credentials", openclaw::credentials)
}

pub(super) fn read() -> Routes {
    Routes::new(Access::Scope(scope::READ))
        .get("/api/user/info", user::info)
        .get("/api/quota", quota::standing)
        .get("/api/quota/explain", quota::explain)
        .get("/api/alerts", alerts::own)
        .get("/api/usage", usage::totals)
        .get("/api/usage/records", usage::records)
        .get("/api/usage/export", usage::export)
}

/// A token must not make tokens, nor change anything about its user.
pub(super) fn in_person() -> Routes {
    Routes::new(Access::Person)
        .post("/api/openclaw/initialize", openclaw::initialize)
        .get("/api/keys", keys::list)
        .post("/api/keys", keys::create)
        .delete("/api/keys/{id}", keys::revoke)
        .put("/api/openclaw/provider-key", provider_key::put)
        .delete("/api/openclaw/provider-key", provider_key::delete)
}

/// What administrators may do.
pub(super) fn administration() -> Routes {
    Routes::new(Access::Administrator)
        .get("/api/admin/users", users::list)
        .delete("/api/admin/users/{user_id}", users::delete)
        .act("user.delete", BeforeAndAfter)
        .get("/api/admin/users/{user_id}/export", user_export::export)
        .act("user.export", BeforeAndAfter)
        .get("/api/admin/users/{user_id}/snapshots", snapshots::list)
        .post("/api/admin/users/{user_id}/snapshots", snapshots::take)
        .act("snapshot.take", BeforeAndAfter)
        .post("/api/admin/users/{user_id}/disable", admin::disable)
        .act("user.disable", BeforeAndAfter)
        .post("/api/admin/users/{user_id}/enable", admin::enable)
        .act("user.enable", BeforeAndAfter)
        .get("/api/admin/users/{user_id}/sessions", admin::sessions)
        .delete("/api/admin/users/{user_id}/sessions", admin::end_sessions)
        .act("sessions.end", BeforeAndAfter)
        .delete(
            "/api/admin/users/{user_id}/sessions/{id}",
            admin::end_session,
        )
        .act("session.end", BeforeAndAfter)
        .get("/api/admin/users/{user_id}/keys", admin_keys::list)
        .delete("/api/admin/users/{user_id}/keys/{id}", admin_keys::revoke)
        .act("key.revoke", BeforeAndAfter)
        .post("/api/admin/users/{user_id}/identities", admin::link)
        .act("user.link", BeforeAndAfter)
        .get("/api/admin/users/{user_id}/quota", admin_quota::show)
        .put("/api/admin/users/{user_id}/quota", admin_quota::replace)
        .act("quota.set", BeforeAndAfter)
        .get(
            "/api/admin/users/{user_id}/quota/explain",
            admin_quota::explain,
        )
        .post(
            "/api/admin/users/{user_id}/quota/grants",
            admin_quota::grant,
        )
        .act("quota.grant", BeforeAndAfter)
        .post(
            "/api/admin/users/{user_id}/quota/reset",
            admin_quota_reset::reset,
        )
        .act("quota.reset", BeforeAndAfter)
        .post("/api/admin/provider-keys/reseal", provider_key::reseal)
        .act("provider-keys.reseal", BeforeAndAfter)
        .get("/api/admin/usage", usage::totals_of_all)
        .get("/api/admin/usage/records", usage::records_of_all)
        .get("/api/admin/usage/export", usage::export_all)
        .post("/api/admin/usage/reprice", usage::reprice)
        .act("usage.reprice", BeforeAndAfter)
        .get("/api/admin/usage/reconcile", usage::reconcile)
        .get("/api/admin/virtual-keys", virtual_keys::list)
        .delete(
            "/api/admin/users/{user_id}/virtual-key",
            virtual_keys::revoke,
        )
        .act("virtual-key.revoke", WithChange)
        .post(
            "/api/admin/users/{user_id}/virtual-key/rotate",
            virtual_keys::rotate,
        )
        .act("virtual-key.rotate", BeforeAndAfter)
        .get("/api/admin/instances", instances::list)
        .post("/api/admin/instances", added_instances::add)
        .act("instance.add", WithChange)
        .delete("/api/admin/instances/{name}", added_instances::remove)
        .act("instance.remove", WithChange)
        .post("/api/admin/instances/{name}/drain", instances::drain)
        .act("instance.drain", WithChange)
        .post("/api/admin/instances/{name}/resume", instances::resume)
        .act("instance.resume", WithChange)
        .delete("/api/admin/users/{user_id}/assignment", instances::unassign)
        .act("user.unassign", WithChange)
        .get("/api/admin/quotas", admin_quota_list::list)
        .get("/api/admin/plans", admin_plans::list)
        .get("/api/admin/prices", admin_prices::list)
        .get("/api/admin/counters", counters::show)
        .delete("/api/admin/counters/members/{member}", counters::forget)
        .act("counters.forget", BeforeAndAfter)
        .get("/api/admin/alerts", alerts::all)
        .post("/api/admin/alerts/{id}/acknowledge", alerts::acknowledge)
        .act("alert.acknowledge", WithChange)
        .post("/api/admin/alerts/{id}/resolve", alerts::resolve)
        .act("alert.resolve", WithChange)
        .get("/api/admin/audit", audit::list)
}

/// What only whoever has the socket may do.
pub(super) fn of_the_operator() -> Routes {
    Routes::new(Access::Administrator)
        .get("/api/admin/log", log::show)
        .put("/api/admin/log", log::change)
        .act("log.change", BeforeAndAfter)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::Method;

    use super::*;

    #[test]
    fn d8_72_what_an_administrator_changes_or_takes_out_is_an_act() {
        let routes = [administration(), of_the_operator()];
        let declared = || routes.iter().flat_map(Routes::declared);
        for route in declared() {
            let takes_out = route.path.ends_with("{user_id}/export");
            let is_act = route.method != Method::GET || takes_out;
            assert_eq!(route.act.is_some(), is_act, "{route:?}");
        }
        let names = declared().filter_map(|route| route.act);
        let names: Vec<_> = names.collect();
        let distinct: HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn nothing_below_administration_is_for_others() {
        for route in routes() {
            let is_below = route.path.starts_with("/api/admin/");
            assert_eq!(route.access == Access::Administrator, is_below, "{route:?}");
        }
    }
}
