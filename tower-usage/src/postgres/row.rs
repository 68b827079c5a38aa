use std::{error::Error, sync::Arc};

use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::{Sum, value::Moment};
use crate::{
    NanoUsd, Operation, Outcome, Price, Rate, RecordId, Source, TokenCounts, UsageRecord,
    sqlite::{LedgerError, row::count},
};

/// Reads a record.
pub(super) fn read(row: &Row) -> Result<UsageRecord, LedgerError> {
    let Moment(admitted_at) = get(row, "admitted_at")?;
    let Moment(ended_at) = get(row, "created_at")?;
    Ok(UsageRecord {
        id: RecordId::from_u128(get::<Uuid>(row, "id")?.as_u128()),
        subject: get::<&str>(row, "user_id")?.into(),
        operation: name(row, "operation", Operation::from_name)?,
        admitted_at,
        ended_at,
        provider: text(row, "provider")?,
        model: text(row, "model")?,
        requested_model: text(row, "requested_model")?,
        response_id: text(row, "response_id")?,
        idempotency_key: text(row, "idempotency_key")?,
        run_id: text(row, "run_id")?,
        session_key: text(row, "session_key")?,
        tokens: TokenCounts {
            input: tokens(row, "input_tokens")?,
            output: tokens(row, "output_tokens")?,
            cache_read: tokens(row, "cache_read_tokens")?,
            cache_write: tokens(row, "cache_write_tokens")?,
            cache_write_1h: tokens(row, "cache_write_1h_tokens")?,
            reasoning: tokens(row, "reasoning_tokens")?,
        },
        calls: count(get(row, "calls")?),
        cost: get::<Option<i64>>(row, "cost_nano_usd")?.map(NanoUsd::from_nanos),
        rate: rate(row)?,
        source: name(row, "source", Source::from_name)?,
        outcome: name(row, "outcome", Outcome::from_name)?,
        metadata: text(row, "metadata")?,
        settle_ref: text(row, "settle_ref")?,
        number: None,
    })
}

/// Reads what was added up.
pub(super) fn sum(row: &Row) -> Result<Sum, LedgerError> {
    let counted = |name| get(row, name).map(count);
    Ok(Sum {
        records: counted("records")?,
        calls: counted("calls")?,
        input_tokens: counted("input")?,
        output_tokens: counted("output")?,
        cache_read_tokens: counted("cache_read")?,
        cache_write_tokens: counted("cache_write")?,
        cache_write_1h_tokens: counted("cache_write_1h")?,
        reasoning_tokens: counted("reasoning")?,
        total_tokens: counted("total")?,
        cost: NanoUsd::from_nanos(get(row, "cost")?),
        unpriced: counted("unpriced")?,
        estimated: counted("estimated")?,
    })
}

pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, LedgerError> {
    row.try_get(column).map_err(LedgerError::postgres)
}

pub(super) fn text(row: &Row, column: &str) -> Result<Option<Arc<str>>, LedgerError> {
    get::<Option<&str>>(row, column).map(|text| text.map(Into::into))
}

fn tokens(row: &Row, column: &str) -> Result<Option<u64>, LedgerError> {
    get::<Option<i64>>(row, column).map(|tokens| tokens.map(count))
}

/// The rate of a row, if it was priced.
fn rate(row: &Row) -> Result<Option<Rate>, LedgerError> {
    let price = |column| {
        let price = tokens(row, column)?;
        Ok::<_, LedgerError>(price.map(Price::from_nanos_per_million))
    };
    let (Some(input), Some(output)) = (price("input_price")?, price("output_price")?) else {
        return Ok(None);
    };
    let rate = Rate::new(input, output)
        .cache_read(price("cache_read_price")?.unwrap_or(input))
        .cache_write(price("cache_write_price")?.unwrap_or(input));
    let rate = match price("cache_write_1h_price")? {
        Some(price) => rate.cache_write_1h(price),
        None => rate,
    };
    Ok(Some(rate))
}

fn name<T>(row: &Row, column: &str, parse: fn(&str) -> Option<T>) -> Result<T, LedgerError> {
    parse(get(row, column)?).ok_or_else(|| {
        let error: Box<dyn Error + Send + Sync> = format!("unknown {column}").into();
        LedgerError::postgres(error)
    })
}
