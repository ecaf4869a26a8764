//! The only axum: routes, pages, and problems turned into answers.
//!
//! [`service`] makes what a worker hands its connections to. The accept loop puts a [`Peer`] into the
//! extensions of each request; nothing else is asked of it. [`probe`] tells whether requests would be
//! answered, by the same way that requests take; [`probe_as_person`] does what somebody does who has an
//! account. An answer may carry an [`EventStream`] or a [`Panicked`] among its extensions.
//!
//! `router` lists every route. Behind it, `machines` are for programs (ActivityPub, WebFinger,
//! NodeInfo, OAuth, health) and `people` are pages. A program shows a bearer token and never a cookie,
//! a page shows a cookie and never a bearer token, so a page somewhere else cannot speak as a program.

mod app;
mod assets;
mod bearer;
mod client;
mod events;
mod extract;
mod finish;
mod machines;
mod negotiate;
mod nudges;
mod people;
mod probe;
mod problem;
mod router;
mod site;
mod text;
mod throttle;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::{BoxError, Router};
use bytes::Bytes;
use http::{Request, Response};
use pump_store::Store;
use tower::ServiceExt;

pub use app::BLOCKING_CALLS;
pub use axum::body::Body;
pub use client::Peer;
pub use events::{EventSource, EventStream};
pub use finish::Panicked;
pub use nudges::Nudges;
pub use probe::{probe, probe_as_person};
pub use router::routes;
pub use site::Site;

/// Answers requests. Cheap to clone; a worker has one and each connection a clone.
#[derive(Clone)]
pub struct Service {
    router: Router,
    app: app::App,
}

/// The service of a site on a database. The store stays the caller's to close.
pub fn service(site: Site, store: Store) -> Service {
    let app = app::App::new(site, store);
    Service { router: router::router(app.clone()), app }
}

impl Service {
    /// Word of what is published, between this service and those of other workers.
    pub fn nudges(&self) -> Nudges {
        self.app.nudges.clone()
    }

    /// Ends every event stream that is still here, and every one to come: each returns a `retry:` with
    /// which its client comes back at once, and then nothing. For streams that cannot be handed over.
    pub fn end_streams(&self) {
        self.app.hub.end();
    }
}

impl<B> tower::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.router.clone().oneshot(request.map(Body::new)))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}
