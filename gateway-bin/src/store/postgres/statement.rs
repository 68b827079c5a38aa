use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{GenericClient, Row};

use crate::store::StoreError;
use crate::store::statement::{Statement, Value};

/// Asks one statement, without a name of its own at the server, so that poolers between can be used.
pub(in crate::store) async fn query(
    client: &impl GenericClient,
    statement: &Statement,
) -> Result<Vec<Row>, StoreError> {
    let values: Vec<_> = statement.values().iter().map(Value::typed).collect();
    let rows = client.query_typed(&statement.for_postgres(), &values).await;
    Ok(rows?)
}

// === impl Value ===

impl Value {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Integer(number) => (number, Type::INT8),
            Self::Boolean(value) => (value, Type::BOOL),
            Self::Bytes(bytes) => (bytes, Type::BYTEA),
        }
    }
}
