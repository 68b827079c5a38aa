use std::sync::Arc;

use http::{Extensions, Request};
use tower_quota::{Charge, Demand, Dimension, QuotaPolicy, Reservation};
use tower_sso::Identity;
use tower_usage::llm::{Attribution, ModelCall};
use tower_usage::{Prices, TokenCounts};

use super::route::Destination;
use crate::clock;
use crate::counters::UNRESERVED;

/// Set aside for the answer of a call that sets no limit of its own.
const DEFAULT_OUTPUT: u64 = 4_096;

/// Tokens and cost of a model call: something must be left, and what the call may take is held until it is known what
/// it took.
#[derive(Clone, Debug)]
pub struct ModelCallCharge {
    prices: Prices,
}

// === impl ModelCallCharge ===

impl ModelCallCharge {
    /// A policy with these prices.
    #[must_use]
    pub fn new(prices: Prices) -> Self {
        Self { prices }
    }
}

impl<B> QuotaPolicy<Request<B>> for ModelCallCharge {
    fn charge(&self, req: &Request<B>) -> Option<Charge> {
        let identity: &Arc<Identity> = req.extensions().get()?;
        let call: &ModelCall = req.extensions().get()?;
        let output = call.max_output.unwrap_or(DEFAULT_OUTPUT);
        let tokens = call.estimated_input.saturating_add(output);
        let mut counts = TokenCounts::default();
        counts.input = Some(call.estimated_input);
        counts.output = Some(output);
        let prices = self.prices.load();
        let priced = prices.price(&call.requested_model, &counts, clock::now());
        let cost = priced.and_then(|priced| priced.rate.cost(&counts));
        let cost = cost
            .and_then(|cost| u64::try_from(cost.as_nanos()).ok())
            .unwrap_or(0);
        Some(
            Charge::new(Arc::clone(identity.user_id()))
                .demand(
                    Dimension::Tokens,
                    Demand {
                        min: 1,
                        want: tokens,
                    },
                )
                .demand(Dimension::Cost, Demand { min: 1, want: cost }),
        )
    }
}

/// Is told whose run is prepared: a model is called for it.
pub type RunPrepared = Arc<dyn Fn(&Arc<str>) + Send + Sync>;

/// Whose a model call is, for the meter. From here on the ledger settles what was set aside, whatever becomes of the
/// call.
pub fn attribute(
    run_prepared: RunPrepared,
) -> impl Fn(&Extensions) -> Option<Attribution> + Send + Sync + 'static {
    move |extensions| {
        let identity: &Arc<Identity> = extensions.get()?;
        // A model is called: whatever run it is for is prepared.
        run_prepared(identity.user_id());
        let mut attribution = Attribution::new(Arc::clone(identity.user_id()));
        let destination: Option<&Destination> = extensions.get();
        attribution.provider = destination.map(|to| Arc::clone(&to.target.name));
        attribution.settle_ref = Some(match extensions.get::<Reservation>() {
            Some(reservation) => {
                let ticket = reservation.hand_over();
                attribution.admitted_at = Some(ticket.admitted_at());
                ticket.to_string().into()
            }
            None => UNRESERVED.into(),
        });
        Some(attribution)
    }
}
