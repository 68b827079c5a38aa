//! The layer, over HTTP and over a protocol of its own.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    convert::Infallible,
    future::{Future, Ready, pending, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_workspace::{
    Bind, BindHttp, BindWorkspace, ResolveError, ResolveFuture, ResponseBody, ResponseFuture,
    Workspace, WorkspaceLayer, WorkspaceResolver,
};

/// A request of a protocol that is not HTTP.
struct Rpc {
    id: u64,
    user_id: Option<Arc<str>>,
    workspace: Option<Arc<Workspace>>,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Done { id: u64, profile: String },
    Refused { id: u64, code: &'static str },
}

#[derive(Clone)]
struct UserId(&'static str);

/// Binds both protocols.
#[derive(Clone, Copy)]
struct BindBoth;

impl Bind<Rpc, Reply> for BindBoth {
    type Response = Reply;

    fn user_id(&self, req: &Rpc) -> Option<Arc<str>> {
        req.user_id.clone()
    }

    fn bind(&self, workspace: Arc<Workspace>, req: &mut Rpc) {
        req.workspace = Some(workspace);
    }

    fn pass(&self, res: Reply) -> Reply {
        res
    }

    fn reject(&self, req: Rpc, error: ResolveError) -> Reply {
        Reply::Refused {
            id: req.id,
            code: error.code(),
        }
    }
}

impl<B, R> Bind<Request<B>, Response<R>> for BindBoth {
    type Response = Response<ResponseBody<R>>;

    fn user_id(&self, req: &Request<B>) -> Option<Arc<str>> {
        req.extensions().get::<UserId>().map(|id| id.0.into())
    }

    fn bind(&self, workspace: Arc<Workspace>, req: &mut Request<B>) {
        Bind::<_, Response<R>>::bind(&BindHttp::new(|_: &_| None), workspace, req);
    }

    fn pass(&self, res: Response<R>) -> Self::Response {
        Bind::<Request<B>, _>::pass(&BindHttp::new(|_: &_| None), res)
    }

    fn reject(&self, req: Request<B>, error: ResolveError) -> Self::Response {
        Bind::<_, Response<R>>::reject(&BindHttp::new(|_: &_| None), req, error)
    }
}

fn rpc(id: u64, user_id: Option<&str>) -> Rpc {
    Rpc {
        id,
        user_id: user_id.map(Into::into),
        workspace: None,
    }
}

fn get(user_id: Option<&'static str>) -> Request<Full<Bytes>> {
    let mut req = Request::new(Full::default());
    if let Some(user_id) = user_id {
        req.extensions_mut().insert(UserId(user_id));
    }
    req
}

async fn answer_rpc(req: Rpc) -> Result<Reply, Infallible> {
    Ok(Reply::Done {
        id: req.id,
        profile: req.workspace.unwrap().profile_name().to_owned(),
    })
}

async fn answer_http(req: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let workspace = req.extensions().get::<Arc<Workspace>>().unwrap();
    let profile = workspace.profile_name().to_owned();
    Ok(Response::new(profile.into()))
}

fn find(user_id: &Arc<str>) -> Result<Arc<Workspace>, ResolveError> {
    match &**user_id {
        "new" => Err(ResolveError::NotProvisioned),
        _ => Ok(Arc::new(Workspace::new(Arc::clone(user_id), "/data")?)),
    }
}

/// Has the answer in memory.
fn at_once() -> Arc<dyn WorkspaceResolver> {
    Arc::new(|user_id: &Arc<str>| ResolveFuture::ready(find(user_id)))
}

/// Has to ask for the answer.
fn later() -> Arc<dyn WorkspaceResolver> {
    Arc::new(|user_id: &Arc<str>| {
        let found = find(user_id);
        ResolveFuture::boxed(async {
            tokio::task::yield_now().await;
            found
        })
    })
}

/// Panics when it is called without having been polled ready, as a service may.
struct Strict {
    ready: bool,
    clones: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Strict {
    fn new() -> Self {
        Self {
            ready: false,
            clones: Arc::default(),
            calls: Arc::default(),
        }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            ready: false,
            clones: Arc::clone(&self.clones),
            calls: Arc::clone(&self.calls),
        }
    }
}

impl Service<Rpc> for Strict {
    type Response = Reply;
    type Error = Infallible;
    type Future = Ready<Result<Reply, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Rpc) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        self.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(Reply::Done {
            id: req.id,
            profile: req.workspace.unwrap().profile_name().to_owned(),
        }))
    }
}

#[tokio::test]
async fn one_layer_serves_http_and_another_protocol() {
    for resolver in [at_once(), later()] {
        let layer = WorkspaceLayer::new(resolver, BindBoth);
        let web = layer.layer(service_fn(answer_http));
        let frames = layer.layer(service_fn(answer_rpc));

        let res = web.clone().oneshot(get(Some("alice"))).await.unwrap();
        assert_eq!(res.status(), StatusCode::OK);
        let body = res.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "user-alice");
        let res = web.oneshot(get(Some("new"))).await.unwrap();
        assert_eq!(res.status(), StatusCode::CONFLICT);

        let reply = frames.clone().oneshot(rpc(7, Some("alice"))).await;
        let done = Reply::Done {
            id: 7,
            profile: "user-alice".into(),
        };
        assert_eq!(reply, Ok(done));
        let reply = frames.oneshot(rpc(8, Some("new"))).await;
        let refused = Reply::Refused {
            id: 8,
            code: "workspace_not_provisioned",
        };
        assert_eq!(reply, Ok(refused));
    }
}

#[tokio::test]
async fn a_request_without_a_user_does_not_reach_the_inner_service() {
    let inner = Strict::new();
    let service = WorkspaceLayer::new(at_once(), BindBoth).layer(inner.clone());
    let reply = service.oneshot(rpc(1, None)).await;
    let refused = Reply::Refused {
        id: 1,
        code: "unauthorized",
    };
    assert_eq!(reply, Ok(refused));
    assert_eq!(inner.calls.load(Ordering::Relaxed), 0);

    let web = WorkspaceLayer::new(at_once(), BindBoth).layer(service_fn(answer_http));
    let res = web.oneshot(get(None)).await.unwrap();
    assert_eq!(res.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn d4_40_a_user_id_without_a_directory_is_refused() {
    let service = WorkspaceLayer::new(at_once(), BindBoth).layer(Strict::new());
    for user_id in ["", "a\0b"] {
        let reply = service.clone().oneshot(rpc(1, Some(user_id))).await;
        let refused = Reply::Refused {
            id: 1,
            code: "workspace_invalid_user",
        };
        assert_eq!(reply, Ok(refused), "{user_id:?}");
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_called() {
    for resolver in [at_once(), later()] {
        let mut service = WorkspaceLayer::new(resolver, BindBoth).layer(Strict::new());
        for id in 0..3 {
            let call = service.ready().await.unwrap().call(rpc(id, Some("alice")));
            assert!(matches!(call.await, Ok(Reply::Done { .. })));
        }
    }
}

#[tokio::test]
async fn an_answer_in_memory_clones_no_service() {
    let inner = Strict::new();
    let clones = Arc::clone(&inner.clones);
    let mut service = WorkspaceLayer::new(at_once(), BindBoth).layer(inner);
    for user_id in [Some("alice"), Some("new"), None] {
        let call = service.ready().await.unwrap().call(rpc(1, user_id));
        assert!(call.await.is_ok());
    }
    assert_eq!(clones.load(Ordering::Relaxed), 0);
}

#[test]
fn a_call_dropped_while_resolving_does_not_reach_the_inner_service() {
    let never: Arc<dyn WorkspaceResolver> =
        Arc::new(|_: &Arc<str>| ResolveFuture::boxed(pending()));
    let mut inner = Strict::new();
    let calls = Arc::clone(&inner.calls);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Service::<Rpc>::poll_ready(&mut inner, &mut cx).is_ready());
    let mut service = BindWorkspace::new(inner, never, BindBoth);
    {
        let mut call = pin!(service.call(rpc(1, Some("alice"))));
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_inner_error_passes_unchanged() {
    let inner = service_fn(|_: Rpc| ready(Err::<Reply, _>("inner")));
    let service = WorkspaceLayer::new(later(), BindBoth).layer(inner);
    assert_eq!(service.oneshot(rpc(1, Some("alice"))).await, Err("inner"));
}

#[tokio::test]
async fn http_binding_takes_the_user_from_extensions_only() {
    let user_id = |extensions: &http::Extensions| Some(extensions.get::<UserId>()?.0.into());
    let layer = WorkspaceLayer::new(at_once(), BindHttp::new(user_id));
    let service = layer.layer(service_fn(answer_http));
    let mut req = get(None);
    req.headers_mut()
        .insert("x-user-id", http::HeaderValue::from_static("bob"));
    let res = service.clone().oneshot(req).await.unwrap();
    assert_eq!(res.status(), StatusCode::UNAUTHORIZED);

    let res = service.oneshot(get(Some("alice"))).await.unwrap();
    let body = res.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "user-alice");
}

#[test]
fn public_types_can_be_shared() {
    fn service<T: Clone + Send + Sync + 'static>() {}
    fn future<T: Send + 'static>() {}
    service::<WorkspaceLayer<BindBoth>>();
    service::<BindWorkspace<Strict, BindBoth>>();
    service::<Workspace>();
    service::<Arc<dyn WorkspaceResolver>>();
    future::<ResolveFuture>();
    future::<ResolveError>();
    future::<ResponseFuture<Strict, BindBoth, Rpc>>();
    future::<ResponseBody<Full<Bytes>>>();
}
