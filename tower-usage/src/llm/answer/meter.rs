use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body::Body;

use super::{Attribution, Leave, Metering, ModelTap, OnLeave, Refused, tap::Books};
use crate::{
    Begun, Clock, Full, Opened, Place, Prices, ResponseBody, Sink, SystemClock, UsageMeter,
    llm::{Api, ModelCall, refusal::Refusal},
};

/// Meters the answers to calls of every [`Api`], whole and streamed.
///
/// A call is metered if `attribute` finds out from the request's extensions to whom it belongs. A metered call gives
/// exactly one record: at the end of the answer, at an error, or when somebody leaves, before the head or within the
/// body.
///
/// The place in the sink is taken before `attribute` is asked, so that it may hand over what must not be lost; it is
/// given back if `attribute` knows nobody. A sink that is full therefore refuses *every* call, also one that would not
/// have been metered: let what is never metered go around the layer. It is refused with 503, in Anthropic's form with
/// 529; the providers' SDKs try again at both.
///
/// A call goes inward once the sink keeps what is known of it then: its prompt, estimated, as an
/// [`Outcome::Aborted`](crate::Outcome::Aborted) that nobody saw the end of. One that a client left before that is
/// [`Outcome::Refused`](crate::Outcome::Refused) and costs nothing.
///
/// - An answer that is not 2xx, and an error of the service inside, is [`Outcome::Failed`](crate::Outcome::Failed) and
///   costs nothing, unless it tells usage. An answer that breaks off or ends in an error event has failed, too; text that
///   went by before that, and usage that was told, is paid for.
/// - Tokens are told apart as each provider counts them: what OpenAI's prompt includes and Anthropic's input excludes,
///   the cached tokens, are a class of their own. Told more than once, usage is that of all so far: the last one counts,
///   of messages the last of each count.
/// - Where the provider tells no usage, or does not get to tell it, what is missing is estimated from the text that went
///   by, four bytes to a token, and the record is marked [`Source::Estimated`](crate::Source::Estimated). Of an answer
///   that cannot be read every byte counts as text. A count that cannot be is estimated likewise, and marked
///   [`Source::Invalid`](crate::Source::Invalid).
/// - What is known of a call that did not end well is in [`UsageRecord::metadata`](crate::UsageRecord::metadata); where
///   somebody answers in place of the provider, what that is [told](Refused) of the provider.
/// - The usage chunk that a [`ModelCallLayer`](super::super::ModelCallLayer) asked for in place of the client is taken
///   out again. Every other byte of the answer goes on as it came, except for the beginning of an event that an error cuts
///   off.
///
/// With the feature `decompression` an answer in one of `gzip`, `deflate`, `br` and `zstd` is read by decoding a copy, to
/// 32 MiB at most; beyond, and where it cannot be decoded, it is estimated. It goes on as it came. Only where a usage
/// chunk is to be taken out the decoded stream goes on, without `Content-Encoding`; if it cannot be decoded to its end,
/// it ends for the client in an error event.
///
/// One call is one request to a provider: a client that tries again is answered, and pays, again. But where it sends the
/// same request under the same `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header;
/// [`ModelCall::idempotency_key`]), and its provider gives the very answer that it gave before, by id, model and exact
/// usage, a ledger in SQLite stores the record without tokens and cost, its metadata names the
/// record it repeats as `replay`, and that is what is settled. A provider that answers with another id has worked twice,
/// and is paid twice. An id that is also found elsewhere, or more than 16 times, is not trusted to be that of one answer:
/// a compatible provider that gives one to all would be free of charge.
///
/// The model that answered is billed; an answer that does not name one is billed as the model asked for. A model that is
/// not in the price list by exactly that name is recorded unpriced: `cost` is `None`, which whoever settles or adds up
/// the record counts as **no money at all**, so that a limit on money does not hold for it. Providers answer with dated
/// names (`gpt-4o-2024-08-06` to a call for `gpt-4o`): the list must have those too.
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// # use http::Extensions;
/// # use tower_usage::{Prices, Sink, UsageLayer, llm::{Attribution, ModelMeter}};
/// /// Put into the extensions by whatever authenticates.
/// #[derive(Clone)]
/// struct User(Arc<str>);
///
/// # fn layer(ledger: Arc<dyn Sink>, prices: Prices) {
/// let meter = ModelMeter::new(ledger, prices, |extensions: &Extensions| {
///     let User(id) = extensions.get()?;
///     Some(Attribution::new(Arc::clone(id)))
/// });
/// let layer = UsageLayer::new(meter);
/// # }
/// ```
pub struct ModelMeter<F, D = Leave> {
    books: Arc<Books>,
    attribute: Arc<F>,
    on_leave: D,
}

// === impl ModelMeter ===

impl<F> ModelMeter<F> {
    /// A meter that records into `sink` at `prices`.
    pub fn new(sink: Arc<dyn Sink>, prices: impl Into<Prices>, attribute: F) -> Self
    where
        F: Fn(&Extensions) -> Option<Attribution>,
    {
        Self {
            books: Arc::new(Books {
                sink,
                prices: prices.into(),
                clock: Arc::new(SystemClock),
            }),
            attribute: Arc::new(attribute),
            on_leave: Leave,
        }
    }

    /// Reads an answer on when its client leaves, for this long and this many bytes at most.
    ///
    /// Such a call is [`Outcome::Aborted`](crate::Outcome::Aborted), and exact if its usage arrived within the bound. The
    /// rest is read in a task of the tokio runtime that the body is dropped on; without one the call is recorded as it
    /// stands.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn drain(self, time: std::time::Duration, bytes: usize) -> ModelMeter<F, super::Drain> {
        ModelMeter {
            books: self.books,
            attribute: self.attribute,
            on_leave: super::Drain::new(time, bytes),
        }
    }
}

impl<F, D> ModelMeter<F, D> {
    /// Sets where times come from. Default: [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        Arc::make_mut(&mut self.books).clock = clock;
        self
    }
}

impl<F, D, Q, B> UsageMeter<Request<Q>, Response<B>> for ModelMeter<F, D>
where
    F: Fn(&Extensions) -> Option<Attribution>,
    D: OnLeave<B>,
    B: Body<Data = Bytes>,
{
    type Tap = ModelTap;
    type Response = Response<ResponseBody<B>>;

    fn open(&self, req: &Request<Q>) -> Opened<ModelTap> {
        let place = match Place::take(Arc::clone(&self.books.sink)) {
            Ok(place) => place,
            Err(full) => return Opened::Full(full),
        };
        let Some(attribution) = (self.attribute)(req.extensions()) else {
            return Opened::Unmetered;
        };
        let call = req.extensions().get::<ModelCall>();
        let books = Arc::clone(&self.books);
        Opened::Metered(ModelTap::open(place, books, attribution, api(req), call))
    }

    fn begin(&self, tap: &mut ModelTap) -> Begun {
        tap.begin()
    }

    fn withdraw(&self, tap: ModelTap) {
        tap.withdraw();
    }

    fn observe(&self, tap: Option<ModelTap>, res: Response<B>) -> Self::Response {
        let Some(tap) = tap else {
            return res.map(ResponseBody::new);
        };
        let (mut head, body) = res.into_parts();
        let refused = head.extensions.remove::<Refused>();
        let metering = Metering::new(tap, head.status, &head.headers, refused);
        metering.edit(&mut head.headers);
        // Nothing more is to be learned of a refusal.
        let rescue = match metering.is_refusal() {
            true => None,
            false => self.on_leave.rescue(),
        };
        Response::from_parts(head, ResponseBody::metered(body, metering, rescue))
    }

    fn fail(&self, tap: ModelTap) {
        tap.fail();
    }

    fn refuse(&self, req: Request<Q>, _: Full) -> Self::Response {
        Refusal::Full.into_response(api(&req))
    }
}

/// What a request is a call of. Without a `ModelCall` its path tells; what neither tells is taken for a chat completion.
fn api<Q>(req: &Request<Q>) -> Api {
    let call = req.extensions().get::<ModelCall>();
    let api = call.map(|call| call.api);
    api.or_else(|| Api::of_path(req.uri().path()))
        .unwrap_or(Api::ChatCompletions)
}

impl<F, D: Clone> Clone for ModelMeter<F, D> {
    fn clone(&self) -> Self {
        Self {
            books: Arc::clone(&self.books),
            attribute: Arc::clone(&self.attribute),
            on_leave: self.on_leave.clone(),
        }
    }
}

impl<F, D> fmt::Debug for ModelMeter<F, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelMeter").finish_non_exhaustive()
    }
}
