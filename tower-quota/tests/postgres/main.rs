//! The store in Postgres, against the server that `TOWER_QUOTA_TEST_POSTGRES` names: its URL, of a user who may make
//! databases. Each test makes one of its own.

#[cfg(test)]
mod crowd;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod model;
#[cfg(test)]
mod round_trips;
#[cfg(test)]
mod support;
#[cfg(test)]
mod wire;
