//! Who may ask what: every route of the API, asked by everybody there is.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod rows;
mod world;

use std::collections::BTreeSet;

use ::http::StatusCode;
use gateway::api::{Access, Route, routes};
use gateway_tests::error::Result;

use rows::{RAISE, ROWS, Row, SIGN_OUT, STATES};
use serde_json::json;
use world::{World, assert_refused};

/// What a route says of who may ask.
fn route_of(row: &Row) -> Route {
    let mut routes = routes().into_iter();
    let found = routes.find(|route| route.method == row.method && *route.path == *row.path);
    found.expect("every row is of a route")
}

#[test]
fn every_route_has_a_row() {
    let all = routes();
    let declared: BTreeSet<_> = all
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    let rows = ROWS
        .iter()
        .map(|row| format!("{} {}", row.method, row.path));
    let rows: Vec<_> = rows.collect();
    let distinct: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(declared, distinct, "add a row for it to rows.rs");
    assert_eq!(rows.len(), distinct.len());
    let acts: BTreeSet<_> = all.iter().filter_map(|route| route.act).collect();
    let listed: BTreeSet<_> = STATES.iter().map(|(action, _)| *action).collect();
    assert_eq!(acts, listed, "say in rows.rs what the log has of it");
}

#[tokio::test]
async fn d8_72_each_route_is_for_those_that_it_says_and_for_nobody_else() -> Result<()> {
    let mut world = World::new().await?;
    let before = world.picture().await?;

    // Refused, and nothing is done.
    for row in ROWS {
        let access = route_of(row).access;
        let what = format!("{} {}", row.method, row.path);
        let nobody = world.by_token(None, row).await?;
        if row.is_sign_out() {
            assert_refused(&nobody, StatusCode::FORBIDDEN, &what);
            continue;
        }
        if access == Access::Anybody {
            assert_eq!(nobody.status.as_u16(), row.answer, "{what}");
            continue;
        }
        assert_refused(&nobody, StatusCode::UNAUTHORIZED, &what);
        let refused = world.by_token(Some(world.key_not_for(access)), row).await?;
        assert_refused(&refused, StatusCode::FORBIDDEN, &what);
        if access == Access::Administrator {
            // A key of an administrator's is no administrator.
            let refused = world
                .by_token(Some(world.administrators_key()), row)
                .await?;
            assert_refused(&refused, StatusCode::FORBIDDEN, &what);
            for user in [&mut world.alice, &mut world.bob] {
                let refused = user.ask(&world.names, row).await?;
                assert_refused(&refused, StatusCode::FORBIDDEN, &what);
            }
        }
    }
    assert_eq!(world.picture().await?, before, "nothing has changed");

    // What is somebody else's is not there, also for an administrator who asks as a person.
    for row in ROWS.iter().filter(|row| row.names_a_thing()) {
        if route_of(row).access != Access::Administrator {
            for other in [&mut world.bob, &mut world.admin] {
                let refused = other.ask(&world.names, row).await?;
                let what = format!("{} {}", row.method, row.path);
                assert_refused(&refused, StatusCode::NOT_FOUND, &what);
            }
        }
    }
    assert_eq!(world.picture().await?, before, "it is still there");

    // Everybody has what is their own.
    for row in ROWS {
        let access = route_of(row).access;
        if access == Access::Administrator || row.is_sign_out() {
            continue;
        }
        let what = format!("{} {}", row.method, row.path);
        let own = world.names.of_the_owner();
        let answer = world.alice.ask(&own, row).await?;
        assert_eq!(
            answer.status.as_u16(),
            row.answer,
            "{what}: {}",
            answer.text()
        );
        if !row.names_a_thing() {
            for other in [&mut world.bob, &mut world.admin] {
                let answer = other.ask(&own, row).await?;
                assert_eq!(
                    answer.status.as_u16(),
                    row.answer,
                    "{what}: {}",
                    answer.text()
                );
            }
        }
        if let Access::Scope(scope) = access {
            let answer = world.by_token(Some(world.key_for(scope)), row).await?;
            assert_eq!(
                answer.status.as_u16(),
                row.answer,
                "{what}: {}",
                answer.text()
            );
        }
    }

    // And administrators all of it.
    for row in ROWS {
        if route_of(row).access == Access::Administrator {
            let what = format!("{} {}", row.method, row.path);
            let answer = world.admin.ask(&world.names, row).await?;
            assert_eq!(
                answer.status.as_u16(),
                row.answer,
                "{what}: {}",
                answer.text()
            );
        }
    }

    // Each act says what was before, and what is after it.
    let mut wrong = Vec::new();
    for (action, states) in STATES {
        let of_act = format!("/api/admin/audit?action={action}");
        let acts = world.admin.get(&of_act).await?;
        let mut rows = acts["audit"].as_array().into_iter().flatten();
        let done = rows.find(|row| row["result"] == "done").cloned();
        let done = done.unwrap_or_default();
        let has = |name: &str| !done[name].is_null();
        if [has("before"), has("after")] != *states {
            wrong.push((action, done));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");

    // What administrators give themselves is an act, and nobody else can.
    let refused = world.bob.ask(&world.names, &RAISE).await?;
    assert_refused(&refused, StatusCode::FORBIDDEN, "raise");
    let raised = world.admin.ask(&world.names, &RAISE).await?;
    assert_eq!(raised.status, StatusCode::OK, "{}", raised.text());
    let acts = world.admin.get("/api/admin/audit?action=quota.raise");
    let acts = acts.await?;
    let [done, begun] = acts["audit"].as_array().map_or(&[][..], Vec::as_slice) else {
        panic!("{acts}");
    };
    assert_eq!(
        (&begun["result"], &done["result"]),
        (&json!("begun"), &json!("done"))
    );
    assert_eq!(
        (&done["who"]["id"], &done["user"]),
        (&json!("admin"), &json!("admin")),
        "{done}"
    );
    assert_eq!(done["before"]["limits"], json!([]), "{done}");
    assert_eq!(done["after"]["limits"][0]["limit"], 3_000_000, "{done}");

    // Who signs out is nobody.
    for person in [&mut world.bob, &mut world.admin] {
        let answer = person.ask(&world.names, &SIGN_OUT).await?;
        assert_eq!(answer.status.as_u16(), SIGN_OUT.answer, "{}", answer.text());
        let row = ROWS.iter().find(|row| row.path == "/api/user/info");
        let refused = person.ask(&world.names, row.expect("it is one")).await?;
        assert_refused(&refused, StatusCode::UNAUTHORIZED, "signed out");
    }
    Ok(())
}
