use crate::laws::{MakeStore, admission, lease, parent, reset, settlement, subject, terms};

/// Tries every law, each on a store of its own.
///
/// # Panics
///
/// If the store breaks a law; the message begins with the law's name.
pub async fn all(make: &impl MakeStore) {
    admission::admits_what_is_left_and_no_more(make).await;
    admission::the_last_unit_goes_to_one_of_a_thousand(make).await;
    admission::a_new_subject_is_limited_from_its_first_request(make).await;
    admission::zero_allows_nothing(make).await;
    admission::unlimited_refuses_nothing(make).await;
    admission::holds_what_is_left_if_that_is_less(make).await;
    admission::a_demand_for_something_left_holds_nothing(make).await;
    admission::all_limits_must_pass_and_a_refusal_changes_nothing(make).await;
    admission::a_refusal_names_the_limit_that_is_reset_last(make).await;
    admission::the_greatest_amounts_neither_wrap_nor_panic(make).await;
    settlement::settling_less_gives_back_the_rest(make).await;
    settlement::settling_more_counts_in_full(make).await;
    settlement::settling_twice_counts_once(make).await;
    settlement::releasing_gives_back_once(make).await;
    settlement::releasing_what_is_settled_changes_nothing(make).await;
    settlement::what_was_released_can_still_be_settled(make).await;
    settlement::abandoning_gives_back(make).await;
    settlement::an_unknown_ticket_changes_nothing(make).await;
    settlement::a_ticket_settles_after_a_journey_as_text(make).await;
    lease::a_lease_that_ends_gives_back(make).await;
    lease::renewing_keeps(make).await;
    lease::renewing_goes_by_a_clock_set_back(make).await;
    lease::renewing_what_is_over_does_not_bring_it_back(make).await;
    lease::a_late_settlement_counts_when_it_was_admitted(make).await;
    reset::a_day_ends_at_midnight_to_the_millisecond(make).await;
    reset::a_month_ends_with_its_last_day_to_the_millisecond(make).await;
    reset::what_is_in_flight_at_a_reset_counts_when_it_was_admitted(make).await;
    reset::what_is_in_flight_at_a_reset_does_not_burden_the_new_period(make).await;
    reset::minutes_and_hours_end_to_the_millisecond(make).await;
    reset::days_are_those_of_the_zone(make).await;
    subject::subjects_do_not_share(make).await;
    subject::raising_a_limit_unblocks_at_once(make).await;
    subject::lowering_a_limit_below_what_is_used_refuses(make).await;
    subject::a_limit_set_later_counts_what_was_used_before(make).await;
    subject::a_limit_set_later_holds_only_what_is_held_since(make).await;
    subject::own_limits_stand_in_the_place_of_the_plans(make).await;
    subject::standings_follow_the_order_of_the_limits(make).await;
    terms::the_second_of_two_who_change_them_notices(make).await;
    terms::they_come_back_as_they_were_set(make).await;
    terms::another_plan_has_other_limits(make).await;
    terms::a_grant_adds_until_it_expires(make).await;
    terms::another_zone_ends_no_period_and_begins_none_twice(make).await;
    parent::all_limits_of_all_parents_must_pass(make).await;
    parent::the_last_unit_of_a_parent_goes_to_one_of_a_thousand(make).await;
    parent::what_members_use_counts_for_their_parents(make).await;
    parent::a_lease_that_ends_gives_back_to_the_parents(make).await;
    parent::one_name_under_two_parents_is_two_subjects(make).await;
}
