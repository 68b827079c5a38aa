use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use tower_sso::Identity;

use crate::operator::is_operator;

/// Who changes something, as the log names them: an operator by their uid, anybody else by a hash of their id.
pub(super) struct Actor<'a>(pub(super) &'a Identity);

// === impl Actor ===

impl fmt::Display for Actor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user_id = self.0.user_id();
        if is_operator(self.0) {
            return f.write_str(user_id);
        }
        let hash = digest(&SHA256, user_id.as_bytes());
        let [a, b, c, d, ..] = *hash.as_ref() else {
            return Ok(());
        };
        write!(f, "{}", u32::from_be_bytes([a, b, c, d]))
    }
}
