//! Takes requests apart: each rejection is a [`Problem`], so that it looks like all others.

use axum::extract::rejection::{BytesRejection, RawFormRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, RawForm, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, Uri, header};
use pump_model::Page;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use crate::app::App;
use crate::client::{Client, Peer};
use crate::problem::Problem;

/// Most fields of a form or a query that are read.
const MAX_FIELDS: usize = 32;

/// The variable parts of the path. What is no UTF-8 is no page of ours.
pub(crate) struct In<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for In<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, app).await;
        path.map(|Path(inner)| Self(inner)).map_err(|_| Problem::not_found("there is no such page"))
    }
}

impl FromRequestParts<App> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        app: &App,
    ) -> Result<Self, std::convert::Infallible> {
        let peer = parts.extensions.get::<Peer>().copied();
        Ok(Self::of(peer, &parts.headers, &app.site.trusted_proxies))
    }
}

/// The whole body, up to the limit.
pub(crate) struct Whole(pub(crate) Bytes);

impl FromRequest<App> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        refuse_long(&request, app)?;
        let body = Bytes::from_request(request, app).await;
        body.map(Self).map_err(|rejection| body_problem(&rejection, app))
    }
}

/// Refuses what is announced to be too long before any of it is read: whoever waits for
/// `100 Continue` need not send it (RFC 9110, 10.1.1).
fn refuse_long(request: &Request, app: &App) -> Result<(), Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let length = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > app.site.body_bytes as u64) {
        return Err(too_long(app));
    }
    Ok(())
}

fn too_long(app: &App) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is longer than the {} bytes that are taken", app.site.body_bytes),
    )
}

fn body_problem(rejection: &BytesRejection, app: &App) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(app),
        _ => Problem::bad_request("the body did not arrive whole"),
    }
}

/// The fields of a form or a query.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    fn parse(encoded: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(encoded).take(MAX_FIELDS);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The query of a request.
    pub(crate) fn of(uri: &Uri) -> Self {
        Self::parse(uri.query().unwrap_or("").as_bytes())
    }

    /// The first field of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All fields of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.0.iter().filter(|(known, _)| known == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// The same as [`Self::get`]; a field that is missing counts as empty.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The page that `before` asks for.
    pub(crate) fn page<I: std::str::FromStr>(&self) -> Result<Page<I>, Problem> {
        match self.get("before") {
            None => Ok(Page::first()),
            Some(text) => text.parse().map(Page::before).map_err(|_| {
                Problem::bad_request("`before` is no id; take it from the link to the next page")
            }),
        }
    }
}

/// A posted form.
impl FromRequest<App> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        refuse_long(&request, app)?;
        match RawForm::from_request(request, app).await {
            Ok(RawForm(body)) => Ok(Self::parse(&body)),
            Err(RawFormRejection::BytesRejection(rejection)) => Err(body_problem(&rejection, app)),
            Err(_) => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has to be a form, `application/x-www-form-urlencoded`",
            )),
        }
    }
}
