//! Alerts, sent to a webhook of the operator's.
//!
//! What is sent is a POST after the [Standard Webhooks specification](https://www.standardwebhooks.com/):
//!
//! ```text
//! webhook-id: 5b4c1b5e-1f3a-4d65-9a43-2e6b1c1f0a55
//! webhook-timestamp: 1614265330
//! webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
//!
//! {"type": "quota.alert", "timestamp": "2021-02-25T15:02:10Z", "data": {…}}
//! ```
//!
//! where `data` is the alert as `/api/alerts` shows it. Each alert arrives at least once, whatever happens to the gateway
//! in between; `webhook-id` is the alert's id and the same each time, so that the receiver can tell. Alerts of one person
//! and limit arrive in the order of their thresholds as long as the receiver takes them and one gateway sends them.

mod receiver;
mod retry;
mod sender;
mod signature;

pub use self::receiver::Target;
pub use self::sender::start;
pub use self::signature::{NotASecret, Signer};

#[cfg(test)]
mod tests;
