//! What people may use: the plan's limits, and their own in place of them.

use tower_quota::{Dimension, DuplicateLimit, Limit, Limits, Window};
use tower_usage::NanoUsd;

use crate::config::Plan;

/// The limits of a plan.
///
/// # Errors
///
/// None today: a plan has a key for each limit.
pub fn limits(plan: &Plan) -> Result<Limits, DuplicateLimit> {
    let nanos = |amount: NanoUsd| u64::try_from(amount.as_nanos()).unwrap_or(0);
    let rows = [
        (Dimension::Tokens, Window::Day, plan.tokens_per_day),
        (Dimension::Tokens, Window::Month, plan.tokens_per_month),
        (Dimension::Cost, Window::Day, plan.cost_per_day.map(nanos)),
        (
            Dimension::Cost,
            Window::Month,
            plan.cost_per_month.map(nanos),
        ),
        (Dimension::Calls, Window::Day, plan.calls_per_day),
        (Dimension::Calls, Window::Month, plan.calls_per_month),
    ];
    Limits::new(rows.into_iter().filter_map(|(dimension, window, amount)| {
        amount.map(|amount| Limit::at_most(dimension, window, amount))
    }))
}

/// The plan with somebody's own limits in the place of its.
///
/// # Errors
///
/// `own` names a limit twice that the plan does not have.
pub fn with_own(plan: &Limits, own: &[Limit]) -> Result<Limits, DuplicateLimit> {
    let of_plan = plan.iter().map(|limit| {
        let same =
            |own: &&Limit| (own.dimension(), own.window()) == (limit.dimension(), limit.window());
        *own.iter().find(same).unwrap_or(limit)
    });
    let besides = own
        .iter()
        .filter(|own| plan.find(own.dimension(), own.window()).is_none())
        .copied();
    Limits::new(of_plan.chain(besides))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_limits_stand_in_the_place_of_the_plans() {
        let tokens = |amount| Limit::at_most(Dimension::Tokens, Window::Day, amount);
        let calls = Limit::at_most(Dimension::Calls, Window::Day, 5);
        let cost = Limit::unlimited(Dimension::Cost, Window::Month);
        let plan = Limits::new([tokens(100), calls]).unwrap();
        let limits = with_own(&plan, &[cost, tokens(7)]).unwrap();
        assert_eq!(
            limits.iter().copied().collect::<Vec<_>>(),
            [tokens(7), calls, cost]
        );
    }
}
