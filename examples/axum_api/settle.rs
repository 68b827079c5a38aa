//! Settling a model call: the reservation's ticket goes into the record, and when the record is in the file the ledger
//! settles by it. So a call counts once, whether its client stays or leaves, and also after a crash.

use std::sync::Arc;

use http::Extensions;
use tower_quota::{
    Amounts, Clock, MemoryStore, QuotaStore, Reservation, Settled, SystemClock, Ticket, TimeZone,
    Window,
};
use tower_usage::UsageRecord;
use tower_usage::llm::Attribution;
use tower_usage::sqlite::{LedgerError, Settle, SettleError, SettleFuture, SqliteLedger};

use crate::user_id;

/// Whose a model call is. From here on the ledger answers for the reservation: it keeps the ticket in the record.
pub(crate) fn attribute(extensions: &Extensions) -> Option<Attribution> {
    let mut attribution = Attribution::new(user_id(extensions)?);
    if let Some(reservation) = extensions.get::<Reservation>() {
        let ticket = reservation.hand_over();
        attribution.admitted_at = Some(ticket.admitted_at());
        attribution.settle_ref = Some(ticket.to_string().into());
    }
    Some(attribution)
}

/// Settles by the ticket that [`attribute`] left in the record.
struct Counters(Arc<MemoryStore>);

impl Settle for Counters {
    fn settle(&self, record: &UsageRecord) -> SettleFuture {
        let ticket = record.settle_ref.as_deref().unwrap_or_default();
        let ticket: Ticket = match ticket.parse() {
            Ok(ticket) => ticket,
            Err(error) => return SettleFuture::ready(Err(SettleError::Refused(Box::new(error)))),
        };
        let used = Amounts::new().tokens(record.tokens.total());
        let store = Arc::clone(&self.0);
        let settled = store.settle(&ticket, used);
        SettleFuture::boxed(async move {
            match settled.await {
                // Made here, so long ago that the store forgot it. The ledger settles a record once, so this counts.
                Ok(Settled::Forgotten) => {
                    store.add_used(ticket.subject(), ticket.admitted_at(), used);
                    Ok(())
                }
                // A ticket of an earlier process is unknown, and its tokens are counted already: see `follow`.
                Ok(_) => Ok(()),
                Err(error) => Err(SettleError::Unavailable(Box::new(error))),
            }
        })
    }
}

/// Counts what the ledger says was used today, and settles from now on what it stores. Plain calls have no record:
/// they are counted anew when the server starts.
pub(crate) fn follow(ledger: &SqliteLedger, quota: &Arc<MemoryStore>) -> Result<(), LedgerError> {
    let today = Window::Day
        .period(SystemClock.now(), &TimeZone::UTC)
        .start();
    for used in ledger.used(today)? {
        quota.add_used(
            &used.user_id.into(),
            used.at,
            Amounts::new().tokens(used.tokens),
        );
    }
    ledger.start_settling(Arc::new(Counters(Arc::clone(quota))))
}
