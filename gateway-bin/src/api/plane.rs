//! Who may ask what.

use utoipa_axum::routes;

use super::routes::Noted::{BeforeAndAfter, WithChange};
use super::routes::{Access, Route, Routes};
use super::{
    added_instances, admin, admin_keys, admin_plans, admin_prices, admin_quota, admin_quota_list,
    admin_quota_reset, alerts, audit, auth, counters, health, instances, keys, log, openapi,
    openclaw, provider_key, quota, snapshots, usage, user, user_export, users, virtual_keys,
    websocket,
};
use crate::sign_in::scope;
use crate::{openai, ui};

/// All routes of the public listener.
#[must_use]
pub fn routes() -> Vec<Route> {
    let all = public();
    all.iter().flat_map(Routes::declared).cloned().collect()
}

/// All routes of the public listener.
pub(super) fn public() -> [Routes; 11] {
    [
        description(),
        open(),
        sign_in(),
        socket(),
        ui::routes(),
        openai::routes(),
        of_workspace(),
        for_chat(),
        read(),
        in_person(),
        administration(),
    ]
}

/// All routes of the operator's socket.
pub(super) fn operator() -> [Routes; 3] {
    [
        description_for_operators(),
        administration(),
        of_the_operator(),
    ]
}

pub(super) fn description() -> Routes {
    Routes::new(Access::Anybody).add(routes!(openapi::public))
}

pub(super) fn description_for_operators() -> Routes {
    Routes::new(Access::Anybody).add(routes!(openapi::operator))
}

pub(super) fn open() -> Routes {
    Routes::new(Access::Anybody)
        .add(routes!(health::healthy))
        .add(routes!(health::alive))
        .add(routes!(health::readyz))
}

/// Where people sign in in browsers.
pub(super) fn sign_in() -> Routes {
    Routes::new(Access::Anybody)
        .add(routes!(auth::begin))
        .add(routes!(auth::call_back))
        .add(routes!(auth::log_out))
        .add(routes!(auth::signed_out))
        .add(routes!(auth::back_channel))
}

/// Who opens a socket may say in its first frame who they are.
pub(super) fn socket() -> Routes {
    Routes::new(Access::Anybody).add(routes!(websocket::upgrade))
}

/// What is asked of somebody's workspace.
pub(super) fn of_workspace() -> Routes {
    Routes::new(Access::Scope(scope::READ)).add(routes!(openclaw::status))
}

/// A password opens sockets.
pub(super) fn for_chat() -> Routes {
    Routes::new(Access::Scope(scope::CHAT)).add(routes!(openclaw::credentials))
}

pub(super) fn read() -> Routes {
    Routes::new(Access::Scope(scope::READ))
        .add(routes!(user::info))
        .add(routes!(quota::standing))
        .add(routes!(quota::explain))
        .add(routes!(alerts::own))
        .add(routes!(usage::totals))
        .add(routes!(usage::records))
        .add(routes!(usage::export::export))
}

/// A token must not make tokens, nor change anything about its user.
pub(super) fn in_person() -> Routes {
    Routes::new(Access::Person)
        .add(routes!(openclaw::initialize))
        .add(routes!(keys::list))
        .add(routes!(keys::create))
        .add(routes!(keys::revoke))
        .add(routes!(provider_key::put))
        .add(routes!(provider_key::delete))
}

/// What administrators may do.
pub(super) fn administration() -> Routes {
    Routes::new(Access::Administrator)
        .add(routes!(users::list))
        .add(routes!(users::delete))
        .act("user.delete", BeforeAndAfter)
        .add(routes!(user_export::export))
        .act("user.export", BeforeAndAfter)
        .add(routes!(snapshots::list))
        .add(routes!(snapshots::take))
        .act("snapshot.take", BeforeAndAfter)
        .add(routes!(admin::disable))
        .act("user.disable", BeforeAndAfter)
        .add(routes!(admin::enable))
        .act("user.enable", BeforeAndAfter)
        .add(routes!(admin::sessions))
        .add(routes!(admin::end_sessions))
        .act("sessions.end", BeforeAndAfter)
        .add(routes!(admin::end_session))
        .act("session.end", BeforeAndAfter)
        .add(routes!(admin_keys::list))
        .add(routes!(admin_keys::revoke))
        .act("key.revoke", BeforeAndAfter)
        .add(routes!(admin::link))
        .act("user.link", BeforeAndAfter)
        .add(routes!(admin_quota::show))
        .add(routes!(admin_quota::replace))
        .act("quota.set", BeforeAndAfter)
        .add(routes!(admin_quota::explain))
        .add(routes!(admin_quota::grant))
        .act("quota.grant", BeforeAndAfter)
        .add(routes!(admin_quota_reset::reset))
        .act("quota.reset", BeforeAndAfter)
        .add(routes!(provider_key::reseal))
        .act("provider-keys.reseal", BeforeAndAfter)
        .add(routes!(usage::totals_of_all))
        .add(routes!(usage::records_of_all))
        .add(routes!(usage::export::export_all))
        .add(routes!(usage::reprice::reprice))
        .act("usage.reprice", BeforeAndAfter)
        .add(routes!(usage::reconcile::reconcile))
        .add(routes!(virtual_keys::list))
        .add(routes!(virtual_keys::revoke))
        .act("virtual-key.revoke", WithChange)
        .add(routes!(virtual_keys::rotate))
        .act("virtual-key.rotate", BeforeAndAfter)
        .add(routes!(instances::list))
        .add(routes!(added_instances::add))
        .act("instance.add", WithChange)
        .add(routes!(added_instances::remove))
        .act("instance.remove", WithChange)
        .add(routes!(instances::drain))
        .act("instance.drain", WithChange)
        .add(routes!(instances::resume))
        .act("instance.resume", WithChange)
        .add(routes!(instances::unassign))
        .act("user.unassign", WithChange)
        .add(routes!(admin_quota_list::list))
        .add(routes!(admin_plans::list))
        .add(routes!(admin_prices::list))
        .add(routes!(counters::show))
        .add(routes!(counters::forget))
        .act("counters.forget", BeforeAndAfter)
        .add(routes!(alerts::all))
        .add(routes!(alerts::acknowledge))
        .act("alert.acknowledge", WithChange)
        .add(routes!(alerts::resolve))
        .act("alert.resolve", WithChange)
        .add(routes!(audit::list))
}

/// What only whoever has the socket may do.
pub(super) fn of_the_operator() -> Routes {
    Routes::new(Access::Administrator)
        .add(routes!(log::show))
        .add(routes!(log::change))
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
