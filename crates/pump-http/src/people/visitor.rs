//! Who is looking at a page: the session cookie, and the secret that forms are bound to.
//!
//! Somebody who signed in has a session token in a cookie. Somebody who has not has a random key in
//! another one, made when a form is shown to them, so that nobody else can sign them in either.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use pump_model::Viewer;
use pump_store::{Account, TokenKind};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::{App, now};
use crate::client::Client;
use crate::problem::Problem;
use crate::site::Site;

/// Longest value of a cookie of ours, in bytes.
const MAX_COOKIE: usize = 128;

/// Random bytes of a stranger's key.
const KEY_BYTES: usize = 16;

/// Seconds that a session lasts, in the cookie and in the database.
pub(super) const SESSION_SECONDS: u64 = 30 * 24 * 3600;

/// Somebody with a browser.
pub(crate) struct Visitor {
    pub(crate) account: Option<Account>,
    pub(crate) client: Client,
    /// The session token or the stranger's key; none when there is no cookie.
    secret: Option<String>,
}

impl Visitor {
    /// As whom the store shows things.
    pub(super) fn viewer(&self) -> Viewer {
        self.account.as_ref().map_or(Viewer::Anonymous, |account| Viewer::Known(account.id))
    }

    /// The session token.
    pub(super) fn session(&self) -> Option<&str> {
        self.account.as_ref().and(self.secret.as_deref())
    }

    /// What a form of this visitor has to carry. Follows from the cookie and tells nothing about it,
    /// so every worker knows it without keeping anything.
    pub(super) fn csrf(&self) -> String {
        let Some(secret) = &self.secret else { return String::new() };
        let digest = Sha256::new().chain_update(b"pump form\0").chain_update(secret).finalize();
        hexadecimal(&digest)
    }

    /// Whether a form carries it.
    pub(super) fn sent(&self, csrf: &str) -> bool {
        self.secret.is_some() && self.csrf().as_bytes().ct_eq(csrf.as_bytes()).into()
    }

    /// Makes a key for a stranger who has none, and the cookie to give them.
    pub(super) fn with_key(mut self, site: &Site) -> Result<(Self, Option<HeaderValue>), Problem> {
        if self.secret.is_some() {
            return Ok((self, None));
        }
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| Problem::internal().because("drawing random bits", error))?;
        let key = hexadecimal(&bytes);
        let cookie = cookie(site, "pump-form", &key, None);
        self.secret = Some(key);
        Ok((self, Some(cookie)))
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Ok(client) = Client::from_request_parts(parts, app).await;
        let site = &app.site;
        if let Some(token) = value(&parts.headers, &cookie_name(site, "pump")) {
            let secret = token.clone();
            let owner = app
                .store(move |store| store.token_owner(&token, TokenKind::Session, now()))
                .await?;
            if owner.is_some() {
                return Ok(Self { account: owner, client, secret: Some(secret) });
            }
        }
        let secret = value(&parts.headers, &cookie_name(site, "pump-form"));
        Ok(Self { account: None, client, secret })
    }
}

/// The cookie that carries a session.
pub(super) fn session_cookie(site: &Site, token: &str) -> HeaderValue {
    cookie(site, "pump", token, Some(SESSION_SECONDS))
}

/// The cookie that ends one.
pub(super) fn no_session_cookie(site: &Site) -> HeaderValue {
    cookie(site, "pump", "", Some(0))
}

/// A browser takes a `__Host-` cookie only over HTTPS and only from this very host, so neither a
/// neighbour on a subdomain nor somebody on the line can plant one.
fn cookie_name(site: &Site, name: &str) -> String {
    if site.is_https() { format!("__Host-{name}") } else { name.to_owned() }
}

fn cookie(site: &Site, name: &str, value: &str, seconds: Option<u64>) -> HeaderValue {
    let mut cookie = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax", cookie_name(site, name));
    if let Some(seconds) = seconds {
        cookie.push_str(&format!("; Max-Age={seconds}"));
    }
    if site.is_https() {
        cookie.push_str("; Secure");
    }
    HeaderValue::try_from(cookie).expect("the parts of our cookies are plain ASCII")
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| value.trim());
    values
        .find(|value| {
            let ours = value.bytes().all(|byte| byte.is_ascii_hexdigit());
            !value.is_empty() && value.len() <= MAX_COOKIE && ours
        })
        .map(str::to_owned)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
