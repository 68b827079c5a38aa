use std::sync::Arc;

use crate::{
    Carry, Granted, OnStoreFailure, QuotaStore, Refusal, Reservation, ReserveError, StoreError,
};

/// Who gets in: the part of the service that a pending request takes along.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) store: Arc<dyn QuotaStore>,
    pub(crate) on_store_failure: OnStoreFailure,
}

/// A request that may run.
pub(crate) enum Admitted {
    /// With what is held for it.
    Metered(Reservation),
    /// Since the store could not answer and the layer is open.
    Unmetered(StoreError),
}

// === impl Admission ===

impl Admission {
    pub(crate) fn admit(&self, answer: Result<Granted, ReserveError>) -> Result<Admitted, Refusal> {
        match (answer, self.on_store_failure) {
            (Ok(granted), _) => {
                let reservation = Reservation::new(Arc::clone(&self.store), granted);
                Ok(Admitted::Metered(reservation))
            }
            (Err(ReserveError::Denied(denied)), _) => Err(Refusal::Denied(denied)),
            (Err(ReserveError::Unavailable(error)), OnStoreFailure::Closed) => {
                Err(Refusal::StoreUnavailable(error))
            }
            (Err(ReserveError::Unavailable(error)), OnStoreFailure::Open) => {
                Ok(Admitted::Unmetered(error))
            }
        }
    }
}

// === impl Admitted ===

impl Admitted {
    /// Puts the reservation into the request, or hands out why there is none.
    pub(crate) fn carry_into(self, req: &mut impl Carry<Reservation>) -> Option<StoreError> {
        match self {
            Self::Metered(reservation) => {
                req.carry(reservation);
                None
            }
            Self::Unmetered(error) => Some(error),
        }
    }
}
