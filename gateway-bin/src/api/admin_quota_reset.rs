use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use tower_quota::{Allowance, Grant, Standing, Terms};
use tower_sso::Identity;
use tracing::info;
use utoipa::ToSchema;

use super::actor::Actor;
use super::admin_quota::{MAX_GRANTS, QuotaOfUser, refusal, shown, shown_terms, too_many_grants};
use super::body::JsonBody;
use super::quota::standings;
use super::{Api, ApiError};
use crate::audit::Act;
use crate::clock;

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reset {
    /// Not what is special about somebody is taken away, but what they have used is given once more.
    #[serde(default)]
    used: bool,
}

/// Puts somebody back to the plan, or, with `used`, gives them as much more as is used until it would have been given anew.
#[utoipa::path(
    post,
    path = "/api/admin/users/{user_id}/quota/reset",
    request_body = Option<Reset>,
    responses(
        (status = OK, body = QuotaOfUser, description = "it holds from the next request on"),
        (status = CONFLICT, description = "they have as many grants as anybody may have, or it was changed by somebody else"),
    )
)]
pub(super) async fn reset(
    State(api): State<Api>,
    Extension(admin): Extension<Arc<Identity>>,
    Extension(act): Extension<Act>,
    Path(user_id): Path<Arc<str>>,
    body: Option<JsonBody<Reset>>,
) -> Result<Json<QuotaOfUser>, ApiError> {
    let wanted = body.map(|JsonBody(wanted)| wanted).unwrap_or_default();
    let terms = match wanted.used {
        true => give_used(&api, &user_id, &act).await?,
        false => {
            let plain = |terms: Terms| {
                act.was(json!(shown_terms(&terms)));
                Terms::default().at_version(terms.version())
            };
            api.terms.change(&user_id, plain).await.map_err(refusal)?
        }
    };
    act.is_now(json!(shown_terms(&terms)));
    info!(by = %Actor(&admin), used = wanted.used, "somebody's quota was reset");
    shown(&api, &user_id, &terms).await
}

async fn give_used(api: &Api, user_id: &Arc<str>, act: &Act) -> Result<Terms, ApiError> {
    let standings = standings(api, user_id).await?;
    let now = clock::now();
    let terms = api.terms.of(user_id).await.map_err(refusal)?;
    if with_used(terms, &standings, now).grants().len() > MAX_GRANTS {
        return Err(too_many_grants());
    }
    let change = |terms| {
        act.was(json!(shown_terms(&terms)));
        with_used(terms, &standings, now)
    };
    api.terms.change(user_id, change).await.map_err(refusal)
}

/// These terms, with as much of each limit as is used granted besides until its period ends.
///
/// What was used stays used: the ledger says so too. What was granted until the same moment counts towards it, so that
/// who asks twice gives once.
fn with_used(terms: Terms, standings: &[Standing], now: SystemTime) -> Terms {
    let terms = terms.retain_grants(|grant| grant.expires_at() > now);
    let used = standings.iter().filter(|standing| {
        standing.used() > 0 && standing.limit().allowance() != Allowance::Unlimited
    });
    used.fold(terms, |terms, standing| {
        let (dimension, window) = (standing.limit().dimension(), standing.limit().window());
        let until = standing.resets_at();
        let is_same = |grant: &Grant| {
            (grant.dimension(), grant.window(), grant.expires_at()) == (dimension, window, until)
        };
        let same = terms.grants().iter().filter(|grant| is_same(grant));
        let granted = same.map(Grant::amount).fold(0, u64::saturating_add);
        let amount = standing.used().max(granted);
        terms
            .retain_grants(|grant| !is_same(grant))
            .grant(Grant::new(dimension, window, amount, until))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use tower_quota::{Dimension, Limit, TimeZone, Window};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn standing(limit: Limit, used: u64) -> Standing {
        Standing::new(
            limit,
            limit.window().period(UNIX_EPOCH, &TimeZone::UTC),
            used,
            7,
        )
    }

    #[test]
    fn what_is_used_is_given_once_more_until_its_period_ends() {
        let day = Limit::at_most(Dimension::Tokens, Window::Day, 100);
        let standings = [
            standing(day, 130),
            standing(Limit::at_most(Dimension::Calls, Window::Hour, 5), 0),
            standing(Limit::unlimited(Dimension::Cost, Window::Month), 9),
        ];
        let lasting = Grant::new(Dimension::Tokens, Window::Day, 1, UNIX_EPOCH + 100 * HOUR);
        let terms = Terms::default().at_version(4).plan("pro").grant(lasting);
        let given = with_used(terms.clone(), &standings, UNIX_EPOCH);
        let used = |amount| {
            Grant::new(
                Dimension::Tokens,
                Window::Day,
                amount,
                UNIX_EPOCH + 24 * HOUR,
            )
        };
        assert_eq!(given, terms.clone().grant(used(130)));

        let again = with_used(given.clone(), &standings, UNIX_EPOCH);
        assert_eq!(again, given, "who asks twice gives once");
        let more = with_used(given, &[standing(day, 150)], UNIX_EPOCH);
        assert_eq!(more, terms.grant(used(150)));
    }

    #[test]
    fn what_was_granted_until_the_same_moment_is_not_made_less() {
        let day = Limit::at_most(Dimension::Calls, Window::Day, 100);
        let granted = |amount| {
            Grant::new(
                Dimension::Calls,
                Window::Day,
                amount,
                UNIX_EPOCH + 24 * HOUR,
            )
        };
        let terms = Terms::default().grant(granted(20)).grant(granted(30));
        let given = with_used(terms, &[standing(day, 40)], UNIX_EPOCH);
        assert_eq!(given.grants(), [granted(50)]);
    }
}
