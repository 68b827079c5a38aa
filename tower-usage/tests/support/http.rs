//! What the tests of model calls share.

use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower_usage::{
    ResponseBody, Sink,
    llm::{Attribution, ModelMeter},
};

use super::{Play, prices, time};

pub fn meter(sink: Arc<dyn Sink>) -> ModelMeter<impl Fn(&Extensions) -> Option<Attribution>> {
    let meter = ModelMeter::new(sink, prices(), |extensions: &Extensions| {
        let mut attribution = Attribution::new(extensions.get::<Arc<str>>()?.clone());
        attribution.provider = Some("acme".into());
        attribution.settle_ref = Some("ticket".into());
        attribution.admitted_at = Some(time(100));
        Some(attribution)
    });
    meter.clock(Arc::new(|| time(200)))
}

pub fn post<B>(body: B) -> Request<B> {
    Request::post("/v1/chat/completions").body(body).unwrap()
}

pub fn answer(kind: &'static str, body: Play) -> Response<Play> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(kind));
    response
}

pub type Metered = Response<ResponseBody<ResponseBody<Play>>>;

pub async fn bytes<B>(response: Response<B>) -> Bytes
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    response.into_body().collect().await.unwrap().to_bytes()
}
