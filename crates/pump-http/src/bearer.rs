//! The token of a program, in `Authorization: Bearer …` (RFC 6750, 2.1).

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::header;
use http::request::Parts;
use pump_model::LocalName;
use pump_store::{Account, TokenHash, TokenKind};

use crate::app::{App, now};
use crate::extract::Fields;
use crate::problem::Problem;

/// Longest token that is looked up, in bytes.
const MAX_TOKEN: usize = 256;

/// Whoever's token the request carries.
pub(crate) struct Bearer(pub(crate) Account);

impl Bearer {
    /// That it is the token of the account with this name.
    pub(crate) fn must_be(&self, name: &LocalName, what: &str) -> Result<(), Problem> {
        if self.0.name == *name {
            return Ok(());
        }
        let whose = &self.0.name;
        Err(Problem::forbidden(format!("the token is `{whose}`'s, and the {what} is `{name}`'s")))
    }
}

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = in_header(parts)?.ok_or_else(missing)?;
        owner(app, token).await.map(Self)
    }
}

/// What the header carries, if it is there.
fn in_header(parts: &Parts) -> Result<Option<String>, Problem> {
    let Some(header) = parts.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    token.filter(|token| token.len() <= MAX_TOKEN).map(Some).ok_or_else(|| {
        let detail = "`Authorization` has to be `Bearer` and a token";
        Problem::unauthorized(detail, Some("invalid_request"))
    })
}

fn missing() -> Problem {
    Problem::unauthorized("this needs a bearer token", None)
}

async fn owner(app: &App, token: String) -> Result<Account, Problem> {
    let owner = app.store(move |store| store.token_owner(&token, TokenKind::Bearer, now())).await?;
    owner.ok_or_else(|| {
        let detail = "the token is not valid, or not any more: sign in again";
        Problem::unauthorized(detail, Some("invalid_token"))
    })
}

/// The same for an event stream, which may carry its token in the query as `access_token`: a browser's
/// `EventSource` cannot set a header. Nothing here logs an address.
pub(crate) struct StreamBearer {
    pub(crate) account: Account,
    pub(crate) token: TokenHash,
}

impl FromRequestParts<App> for StreamBearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let in_query = || Fields::of(&parts.uri).get("access_token").map(str::to_owned);
        let token = in_header(parts)?.or_else(in_query).filter(|token| token.len() <= MAX_TOKEN);
        let token = token.ok_or_else(missing)?;
        let hash = TokenHash::of(&token);
        Ok(Self { account: owner(app, token).await?, token: hash })
    }
}

/// Where a token is welcome and not needed. One that is no good is still an error.
impl OptionalFromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>, Problem> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        <Self as FromRequestParts<App>>::from_request_parts(parts, app).await.map(Some)
    }
}
