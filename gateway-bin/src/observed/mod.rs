//! Metering of an instance that calls its providers itself (`metering = "observed"`): each answer of a model that the
//! instance announces is one record, charged after the fact.
//!
//! Of several gateways one meters, by a lease in the store, and another takes over within twenty seconds of its death.
//! Messages are announced once; what nobody heard, since the channel was down or the meter had died, is read from the
//! histories of those sessions that have changed since, whenever a channel opens and from time to time. Once all of that is
//! in the ledger, the time when the reading began is noted, and whoever meters next begins there. The id of a record
//! follows from its message, so that it is one record however often it is met: one of a ledger, one of the database, and
//! counted once where several gateways share their counters.
//!
//! Two ledgers may have the same record of what the one gateway had not shipped yet when it died and the other took over;
//! the database to which they are shipped has it once.
//!
//! Not seen: what calls that were aborted or failed took, which an instance does not say; calls that leave no message, such
//! as those that compact a session or find a title for it; and, of the time when no gateway listened, sessions that were
//! reset or deleted in it, runs of cron jobs, whose sessions are not listed, and hidden answers behind several megabytes.

mod ear;
mod message;
mod meter;
mod recent;
mod round;
mod sweep;
#[cfg(test)]
mod tests;
mod transcript;

pub use self::ear::{Ear, Heard, channel};
pub(crate) use self::message::agent_of;
pub use self::message::{Message, Subject};
pub use self::meter::{Meter, Parts};
