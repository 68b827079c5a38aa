//! Records on their way into the table.

use std::pin::pin;

use tokio_postgres::{
    Client, Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::value::{Json, Moment, Text};
use crate::{
    Price, Rate, UsageRecord,
    sqlite::{
        outbox::Shipped,
        row::{integer, money},
    },
};

/// What is copied, in the order of [`write`].
const COLUMNS: [(&str, Type); 32] = [
    ("id", Type::UUID),
    ("ledger", Type::UUID),
    ("number", Type::INT8),
    ("user_id", Type::TEXT),
    ("operation", Type::TEXT),
    ("provider", Type::TEXT),
    ("model", Type::TEXT),
    ("requested_model", Type::TEXT),
    ("session_key", Type::TEXT),
    ("run_id", Type::TEXT),
    ("response_id", Type::TEXT),
    ("input_tokens", Type::INT8),
    ("output_tokens", Type::INT8),
    ("cache_read_tokens", Type::INT8),
    ("cache_write_tokens", Type::INT8),
    ("cache_write_1h_tokens", Type::INT8),
    ("reasoning_tokens", Type::INT8),
    ("total_tokens", Type::INT8),
    ("calls", Type::INT8),
    ("cost_nano_usd", Type::INT8),
    ("input_price", Type::INT8),
    ("output_price", Type::INT8),
    ("cache_read_price", Type::INT8),
    ("cache_write_price", Type::INT8),
    ("cache_write_1h_price", Type::INT8),
    ("source", Type::TEXT),
    ("outcome", Type::TEXT),
    ("metadata", Type::JSONB),
    ("settle_ref", Type::TEXT),
    ("admitted_at", Type::TIMESTAMPTZ),
    ("created_at", Type::TIMESTAMPTZ),
    ("idempotency_key", Type::TEXT),
];

/// By which a row is known, and of which it is not changed.
const KEY: [&str; 2] = ["id", "admitted_at"];

/// The statements of a batch. Made once.
#[derive(Debug)]
pub(super) struct Batches {
    copy: String,
    merge: String,
}

/// Once for each connection: a table for each batch would fill the catalog.
const MAKE: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS token_usage_batch (LIKE token_usage_logs) ON COMMIT DELETE ROWS";

const MARK: &str = "
INSERT INTO token_usage_ledgers (ledger, up_to, changes, shipped_at) VALUES ($1, $2, $3, now())
ON CONFLICT (ledger) DO UPDATE
    SET up_to = excluded.up_to, changes = excluded.changes, shipped_at = excluded.shipped_at";

// === impl Batches ===

impl Batches {
    pub(super) fn new() -> Self {
        let names = COLUMNS.map(|(name, _)| name);
        let changeable: Vec<_> = names
            .into_iter()
            .filter(|name| !KEY.contains(name))
            .collect();
        let set: Vec<_> = changeable
            .iter()
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        let row = |of: &str| {
            let columns: Vec<_> = changeable
                .iter()
                .map(|name| format!("{of}.{name}"))
                .collect();
            format!("({})", columns.join(", "))
        };
        let names = names.join(", ");
        // In the order of the key, so that two who merge the same do not wait for each other in a circle.
        let merge = format!(
            "INSERT INTO token_usage_logs AS logs ({names})
             SELECT {names} FROM token_usage_batch ORDER BY admitted_at, id
             ON CONFLICT (id, admitted_at) DO UPDATE SET {} WHERE {} IS DISTINCT FROM {}",
            set.join(", "),
            row("logs"),
            row("excluded"),
        );
        Self {
            copy: format!("COPY token_usage_batch ({names}) FROM STDIN (FORMAT binary)"),
            merge,
        }
    }

    /// Ships records in one transaction, with the mark of how far that is if it is given.
    pub(super) async fn ship(
        &self,
        client: &mut Client,
        ledger: Uuid,
        records: &[UsageRecord],
        mark: Option<Shipped>,
    ) -> Result<(), tokio_postgres::Error> {
        let transaction = client.transaction().await?;
        if !records.is_empty() {
            transaction.batch_execute(MAKE).await?;
            self.copy(&transaction, ledger, records).await?;
            transaction.execute_typed(&self.merge, &[]).await?;
        }
        if let Some(mark) = mark {
            let values: [(&(dyn ToSql + Sync), Type); 3] = [
                (&ledger, Type::UUID),
                (&mark.up_to, Type::INT8),
                (&mark.changes, Type::INT8),
            ];
            transaction.execute_typed(MARK, &values).await?;
        }
        transaction.commit().await
    }

    async fn copy(
        &self,
        transaction: &Transaction<'_>,
        ledger: Uuid,
        records: &[UsageRecord],
    ) -> Result<(), tokio_postgres::Error> {
        let sink = transaction.copy_in(&self.copy).await?;
        let types = COLUMNS.map(|(_, kind)| kind);
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
        for record in records {
            let id = Uuid::from_u128(record.id.as_u128());
            let number = record.number.map(integer).unwrap_or_default();
            let tokens = record.tokens;
            let price = |price: fn(&Rate) -> Price| {
                record
                    .rate
                    .as_ref()
                    .map(|rate| integer(price(rate).as_nanos_per_million()))
            };
            let cache_write_1h_price = record
                .rate
                .and_then(|rate| rate.cache_write_1h_price())
                .map(|price| integer(price.as_nanos_per_million()));
            let values: [&(dyn ToSql + Sync); COLUMNS.len()] = [
                &id,
                &ledger,
                &number,
                &Text(&record.subject),
                &record.operation.as_str(),
                &record.provider.as_deref().map(Text),
                &record.model.as_deref().map(Text),
                &record.requested_model.as_deref().map(Text),
                &record.session_key.as_deref().map(Text),
                &record.run_id.as_deref().map(Text),
                &record.response_id.as_deref().map(Text),
                &tokens.input.map(integer),
                &tokens.output.map(integer),
                &tokens.cache_read.map(integer),
                &tokens.cache_write.map(integer),
                &tokens.cache_write_1h.map(integer),
                &tokens.reasoning.map(integer),
                &integer(tokens.total()),
                &integer(record.calls),
                &record.cost.map(money),
                &price(Rate::input_price),
                &price(Rate::output_price),
                &price(Rate::cache_read_price),
                &price(Rate::cache_write_price),
                &cache_write_1h_price,
                &record.source.as_str(),
                &record.outcome.as_str(),
                &record.metadata.as_deref().map(Json),
                &record.settle_ref.as_deref().map(Text),
                &Moment(record.admitted_at),
                &Moment(record.ended_at),
                &record.idempotency_key.as_deref().map(Text),
            ];
            writer.as_mut().write(&values).await?;
        }
        writer.finish().await.map(drop)
    }
}
