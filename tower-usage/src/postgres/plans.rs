//! How the server goes about what is asked of it, with a million records there.

use std::time::{Duration, SystemTime};

use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    GroupBy, schema, statements,
    testing::Database,
    value::{Moment, Text},
};

/// Of a thousand users in 25 months.
const MILLION: &str = "
INSERT INTO token_usage_logs (id, ledger, number, user_id, operation, model, session_key, response_id,
    input_tokens, total_tokens, calls, cost_nano_usd, source, outcome, admitted_at, created_at)
SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000000', n, 'user ' || n * 7919 % 1000, 'model_call',
    'model ' || n % 7, 'session ' || n % 50000, 'answer ' || n, n % 1000, n % 1000, 0, n % 1000, 'exact', 'complete',
    timestamptz '2024-01-01 00:00:00+00' + n * interval '64 seconds', now()
FROM generate_series(0::bigint, 999999) AS n";

const MONTHS: &str = "
DO $$ BEGIN FOR month IN 0..24 LOOP
    EXECUTE format('CREATE TABLE token_usage_logs_%s PARTITION OF token_usage_logs FOR VALUES FROM (%L) TO (%L)', month,
        timestamptz '2024-01-01 00:00:00+00' + month * interval '1 month',
        timestamptz '2024-01-01 00:00:00+00' + (month + 1) * interval '1 month');
END LOOP; END $$";

async fn plan(client: &Client, statement: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> String {
    let explain = format!("EXPLAIN {statement}");
    let rows = client.query_typed(&explain, values).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.join("\n")
}

/// No month is read as a whole.
fn assert_is_served(plan: &str, index: &str) {
    let whole = plan
        .lines()
        .filter(|line| line.contains("Seq Scan") && !line.contains("token_usage_logs_other"));
    assert_eq!(whole.count(), 0, "{plan}");
    assert!(plan.contains(index), "{index}: {plan}");
}

#[tokio::test]
async fn every_query_is_served_by_an_index_over_a_million_records() {
    let Some(mut database) = Database::new().await else {
        return;
    };
    let client = &mut database.client;
    schema::migrate(client).await.unwrap();
    for statement in [MONTHS, MILLION, "ANALYZE"] {
        client.batch_execute(statement).await.unwrap();
    }

    let at = |days: u64| Moment(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400));
    // 2024-01-01 is day 19,723. A user asks for all of it; somebody who asks for everybody's, for a day.
    let (begin, end) = (at(19_700), at(20_500));
    let (day, next_day) = (at(20_000), at(20_001));
    let (user, nobody) = (Some(Text("user 7")), None::<Text<'_>>);
    let most = 100_i64;
    let none = (None::<Moment>, None::<Uuid>);
    for of_user in [true, false] {
        let (from, to, user, index) = match of_user {
            true => (&begin, &end, &user, "user_id_admitted_at_id_idx"),
            false => (&day, &next_day, &nobody, "admitted_at_id_idx"),
        };
        let mut scope: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (from, Type::TIMESTAMPTZ),
            (to, Type::TIMESTAMPTZ),
            (user, Type::TEXT),
        ];
        let sum = plan(client, &statements::sum(of_user), &scope).await;
        assert_is_served(&sum, index);
        for by in [
            GroupBy::Day,
            GroupBy::Model,
            GroupBy::Session,
            GroupBy::User,
        ] {
            let totals = plan(client, &statements::totals(of_user, by), &scope).await;
            assert_is_served(&totals, index);
        }
        scope.push((&most, Type::INT8));
        // Everybody's pages are asked for of all time, too.
        if !of_user {
            (scope[0].0, scope[1].0) = (&begin, &end);
        }
        let (amid, id) = (Some(at(20_000)), Some(Uuid::nil()));
        for (before, amid, id) in [(false, &none.0, &none.1), (true, &amid, &id)] {
            let mut values = scope.clone();
            values.extend([
                (amid as &(dyn ToSql + Sync), Type::TIMESTAMPTZ),
                (id, Type::UUID),
            ]);
            let records = plan(client, &statements::records(of_user, before), &values).await;
            assert_is_served(&records, index);
            assert!(!records.contains("Sort  ("), "{records}");
        }
        for (after, id) in [(false, &none.1), (true, &id)] {
            let mut values = scope.clone();
            values.push((id as &(dyn ToSql + Sync), Type::UUID));
            let export = plan(client, &statements::export(of_user, after), &values).await;
            assert_is_served(&export, index);
            assert!(!export.contains("Sort  ("), "{export}");
        }
        let values = [(&id as &(dyn ToSql + Sync), Type::UUID), (user, Type::TEXT)];
        let time = plan(client, statements::FIND_TIME, &values).await;
        assert_is_served(&time, "pkey");
    }
    let answer = [(&Text("answer 5") as &(dyn ToSql + Sync), Type::TEXT)];
    let by_response = plan(client, &statements::by_response(), &answer).await;
    assert_is_served(&by_response, "hashtextextended_admitted_at_idx");

    database.end().await;
}
