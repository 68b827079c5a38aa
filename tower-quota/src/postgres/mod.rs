//! The store in Postgres.

mod answer;
mod connection;
mod exchange;
mod ids;
mod lanes;
mod operations;
mod question;
mod server;
mod server_time;
mod statements;
mod store;
mod sweep;
mod tables;

pub use self::store::PostgresStore;
