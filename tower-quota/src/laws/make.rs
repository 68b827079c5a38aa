use std::{future::Future, sync::Arc, time::Duration};

use crate::{Clock, Plans, QuotaStore};

/// The lease that the stores of [`MakeStore`] have.
pub const LEASE: Duration = Duration::from_secs(15 * 60);

/// How to make a store to try the laws on.
///
/// Any `AsyncFn(Plans, Arc<dyn Clock>) -> Arc<dyn QuotaStore>` is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make a store",
    note = "a maker is an `AsyncFn(Plans, Arc<dyn Clock>) -> Arc<dyn QuotaStore>`"
)]
pub trait MakeStore {
    /// An empty store, in which subjects have the limits of `plans`, that goes by `clock` and whose lease is [`LEASE`].
    fn make(
        &self,
        plans: Plans,
        clock: Arc<dyn Clock>,
    ) -> impl Future<Output = Arc<dyn QuotaStore>>;
}

// === impl MakeStore ===

impl<F> MakeStore for F
where
    F: AsyncFn(Plans, Arc<dyn Clock>) -> Arc<dyn QuotaStore>,
{
    async fn make(&self, plans: Plans, clock: Arc<dyn Clock>) -> Arc<dyn QuotaStore> {
        self(plans, clock).await
    }
}
