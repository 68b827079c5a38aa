use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, TransactionBehavior, params_from_iter};

use crate::store::StoreError;
use crate::store::row::Row;
use crate::store::statement::{Statement, Value};

/// What `read` makes of the rows that a statement answers.
pub(in crate::store) fn query<T>(
    connection: &Connection,
    statement: &Statement,
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut prepared = connection.prepare_cached(&statement.for_sqlite())?;
    let mut rows = prepared.query(params_from_iter(statement.values()))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read(&Row::Sqlite(row))?);
    }
    Ok(all)
}

/// Does all of it, or nothing.
pub(in crate::store) fn apply(
    connection: &mut Connection,
    statements: &[Statement],
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for statement in statements {
        query(&transaction, statement, |_| Ok(()))?;
    }
    Ok(transaction.commit()?)
}

// === impl Value ===

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Integer(Some(number)) => ValueRef::Integer(*number),
            Self::Text(None) | Self::Integer(None) => ValueRef::Null,
            Self::Boolean(value) => ValueRef::Integer((*value).into()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
