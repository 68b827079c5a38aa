//! A real Postgres as a process of the test, with a directory of its own.

mod database;
mod server;

pub use database::create_database;
pub use server::Postgres;
