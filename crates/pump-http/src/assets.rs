//! The style sheet and the icon, part of the program.
//!
//! Their names carry their hash, so a browser may keep them for ever. While an old and a new build
//! serve side by side, a page of one may ask the other for its sheet: a name of the right form with
//! another hash is answered with what we have, to be kept by nobody.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::problem::Problem;

const STYLE: &str = include_str!("../static/style.css");
const ICON: &str = include_str!("../static/icon.svg");

/// Where the pages find them.
pub(crate) struct Assets {
    pub(crate) style: String,
    pub(crate) icon: String,
}

/// The names of this build.
pub(crate) static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: format!("/static/pump-{}.css", hash(STYLE)),
    icon: format!("/static/pump-{}.svg", hash(ICON)),
});

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// `GET /static/{file}`
pub(crate) async fn get(Path(file): Path<String>) -> Result<Response, Problem> {
    let hash_ending = |end| file.strip_prefix("pump-").and_then(|rest| rest.strip_suffix(end));
    let hexadecimal = |hash: &str| hash.len() == 12 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let (text, kind) = if hash_ending(".css").is_some_and(hexadecimal) {
        (STYLE, "text/css; charset=utf-8")
    } else if hash_ending(".svg").is_some_and(hexadecimal) {
        (ICON, "image/svg+xml")
    } else {
        return Err(Problem::not_found("there is no such file"));
    };
    let ours = [&ASSETS.style, &ASSETS.icon].iter().any(|path| path.ends_with(&file));
    let caching = if ours { "public, max-age=31536000, immutable" } else { "no-store" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
    ];
    Ok((headers, text).into_response())
}
