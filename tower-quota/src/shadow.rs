use std::{fmt, sync::Arc};

use crate::{
    Amounts, Charge, Denied, Granted, QuotaStore, Released, Renewed, ReserveError, Settled,
    Standing, StoreError, StoreFuture, Subject, Terms, Ticket,
};

/// A [`QuotaStore`] that decides and reports, and lets everything pass: to see what limits would refuse before they
/// do.
///
/// What would be refused holds whatever is left, and what it uses counts, so the figures are those of a day without
/// limits. A refusal that is not carried out costs a second question to the store.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use std::sync::Arc;
/// use tower_quota::{Limits, MemoryStore, Shadow};
///
/// let store = Shadow::new(Arc::new(MemoryStore::new(Limits::default())), |charge, denied| {
///     eprintln!("{} would have been refused: {denied}", charge.subject().name());
/// });
/// # let _ = store;
/// # }
/// ```
pub struct Shadow<S: ?Sized> {
    report: Report,
    store: Arc<S>,
}

type Report = Arc<dyn Fn(&Charge, &Denied) + Send + Sync>;

// === impl Shadow ===

impl<S: QuotaStore + ?Sized> Shadow<S> {
    /// Decides by `store`, and tells `report` whom it would have refused, and why. It is called while the request
    /// waits: it must not block.
    #[must_use]
    pub fn new(store: Arc<S>, report: impl Fn(&Charge, &Denied) + Send + Sync + 'static) -> Self {
        Self {
            report: Arc::new(report),
            store,
        }
    }
}

impl<S: QuotaStore + ?Sized> QuotaStore for Shadow<S> {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        match self.store.reserve(charge).try_ready() {
            Ok(Err(ReserveError::Denied(denied))) => {
                (self.report)(charge, &denied);
                self.store.reserve(&charge.clone().without_minimum())
            }
            Ok(answer) => StoreFuture::ready(answer),
            Err(waiting) => {
                let (report, store) = (Arc::clone(&self.report), Arc::clone(&self.store));
                let charge = charge.clone();
                StoreFuture::boxed(async move {
                    match waiting.await {
                        Err(ReserveError::Denied(denied)) => {
                            report(&charge, &denied);
                            store.reserve(&charge.without_minimum()).await
                        }
                        answer => answer,
                    }
                })
            }
        }
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        self.store.settle(ticket, used)
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        self.store.release(ticket)
    }

    fn abandon(&self, ticket: &Ticket) {
        self.store.abandon(ticket);
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        self.store.renew(ticket)
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        self.store.standings(subject)
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        self.store.terms(subject)
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        self.store.set_terms(subject, terms)
    }
}

impl<S: ?Sized> fmt::Debug for Shadow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{Dimension, Limit, Limits, MemoryStore, Window};

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => unreachable!("the store in memory answers at once"),
        }
    }

    #[test]
    fn what_would_be_refused_is_reported_passes_and_counts() {
        let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1)]).unwrap();
        let reported = Arc::new(AtomicU32::new(0));
        let report = Arc::clone(&reported);
        let store = Shadow::new(Arc::new(MemoryStore::new(plan)), move |charge, denied| {
            assert_eq!((&**charge.subject().name(), denied.limit()), ("alice", 1));
            report.fetch_add(1, Ordering::Relaxed);
        });
        let call = Charge::new("alice").exactly(Dimension::Calls, 1);
        for lawful in [0, 1, 2] {
            let granted = now(store.reserve(&call)).unwrap();
            let settled = now(store.settle(granted.ticket(), Amounts::new().calls(1)));
            assert!(matches!(settled, Ok(Settled::Applied { .. })));
            assert_eq!(reported.load(Ordering::Relaxed), lawful);
        }
        let standing = now(store.standings(&"alice".into())).unwrap();
        assert_eq!(standing.first().map(Standing::used), Some(3));
    }
}
