//! What went wrong, told twice: to the client in a sentence, to the log with its cause.
//!
//! A handler returns a [`Problem`]. It leaves here with an empty body; [`finish`](crate::finish) sees
//! the request as well, writes the cause to the log once, and gives the answer its body: a page for
//! a browser, `application/problem+json` (RFC 9457) for anybody else.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::Body;

/// An answer that says why there is no other one.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// For the client: a sentence.
    pub(crate) detail: Cow<'static, str>,
    /// For the log: what we were doing, and what came of it.
    pub(crate) cause: Option<(&'static str, Arc<dyn Error + Send + Sync>)>,
    /// Whether it comes of a panic.
    pub(crate) panicked: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// Any status with a sentence.
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), cause: None, panicked: false, headers: Vec::new() }
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Understood, and not possible.
    pub(crate) fn unprocessable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// A bearer token is needed (RFC 6750, section 3). With `error` when one came and was no good.
    pub(crate) fn unauthorized(detail: &'static str, error: Option<&'static str>) -> Self {
        let challenge = match error {
            Some(error) => format!("Bearer realm=\"pump\", error=\"{error}\""),
            None => "Bearer realm=\"pump\"".to_owned(),
        };
        let challenge = HeaderValue::try_from(challenge).expect("the challenge is plain ASCII");
        Self::new(StatusCode::UNAUTHORIZED, detail).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// Too often.
    pub(crate) fn too_many(detail: &'static str, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
    }

    /// Not now.
    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(wait)
    }

    /// Our own fault.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "something went wrong here, and the people who run this site can find it in their log",
        )
    }

    /// The same, by a bug.
    pub(crate) fn panicked(
        doing: &'static str,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { panicked: true, ..Self::internal().because(doing, cause) }
    }

    /// What the log should know.
    pub(crate) fn because(
        mut self,
        doing: &'static str,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        self.cause = Some((doing, Arc::from(cause.into())));
        self
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        self.with(header::RETRY_AFTER, seconds.into())
    }

    /// Writes the cause to the log, where there is one.
    pub(crate) fn log(&self, method: &http::Method, route: &str) {
        let status = self.status.as_u16();
        if let Some((doing, cause)) = &self.cause {
            let mut chain = cause.to_string();
            let mut next = cause.source();
            while let Some(source) = next {
                chain = format!("{chain}: {source}");
                next = source.source();
            }
            tracing::error!(
                http.status = status,
                "{method} {route} was answered with {status}: {doing}: {chain}"
            );
        } else if self.status.is_server_error() {
            tracing::error!(
                http.status = status,
                "{method} {route} was answered with {status}: {}",
                self.detail
            );
        }
    }

    /// The body that a program reads.
    pub(crate) fn json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Shape<'a> {
            r#type: &'static str,
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let shape = Shape {
            r#type: "about:blank",
            title: self.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        serde_json::to_vec(&shape).expect("strings and a number have a JSON form")
    }

    /// The status in words.
    pub(crate) fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers.iter().cloned());
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<pump_store::Error> for Problem {
    fn from(error: pump_store::Error) -> Self {
        use pump_store::Error;

        const SOON: Duration = Duration::from_secs(2);
        const LATER: Duration = Duration::from_secs(60);
        match &error {
            Error::NotFound { .. } => Self::not_found(error.to_string()),
            Error::Forbidden { .. } => Self::forbidden(error.to_string()),
            Error::NameTaken(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            Error::NameReserved(_)
            | Error::OwnFollow
            | Error::NotUndoable
            | Error::TooMany { .. } => Self::unprocessable(error.to_string()),
            Error::Busy { .. } => {
                Self::unavailable("there is a lot to do at the moment, try again", SOON)
                    .because("waiting for the database", error)
            }
            Error::Closed { .. } => {
                Self::unavailable("this process is ending, try again", Duration::from_secs(1))
                    .because("using the database", error)
            }
            Error::Full { .. } | Error::NotWritable { .. } => {
                Self::unavailable("nothing can be saved at the moment, try again later", LATER)
                    .because("writing to the database", error)
            }
            _ => Self::internal().because("using the database", error),
        }
    }
}
