//! A form that somebody sent from one of our pages, and from nowhere else.
//!
//! Three guards, each of which would do: the cookie is `SameSite=Lax`, the browser says where the form
//! stood (`Sec-Fetch-Site`, `Origin`), and the form carries a value that follows from the cookie.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderMap, header};

use super::go_to;
use super::visitor::Visitor;
use crate::app::App;
use crate::client::Client;
use crate::extract::Fields;
use crate::problem::Problem;
use crate::site::Site;

/// A form and who sent it.
pub(crate) struct Posted {
    pub(crate) visitor: Visitor,
    pub(crate) fields: Fields,
}

impl FromRequest<App> for Posted {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, app).await?;
        if !is_from_here(&parts.headers, &visitor.client, &app.site) {
            return Err(Problem::forbidden("this form was sent from another site"));
        }
        let fields = Fields::from_request(Request::from_parts(parts, body), app).await?;
        if !visitor.sent(fields.text("csrf")) {
            return Err(Problem::forbidden(
                "this form is out of date: go back, load the page again, and send it once more",
            ));
        }
        Ok(Self { visitor, fields })
    }
}

impl Posted {
    /// Back to the page on which the form stood.
    pub(super) fn back(&self, otherwise: &str) -> axum::response::Response {
        let back = self.fields.text("back");
        go_to(if is_ours(back) { back } else { otherwise })
    }
}

/// Whether this can only be a path of ours: no scheme, no host, nothing that a browser turns into one.
fn is_ours(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/@_?=&-#".contains(&byte);
    path.starts_with('/') && !path.starts_with("//") && path.bytes().all(plain)
}

fn is_from_here(headers: &HeaderMap, client: &Client, site: &Site) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key("sec-fetch-site")
        && !matches!(text("sec-fetch-site"), Some("same-origin" | "none"))
    {
        return false;
    }
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let Some(origin) = text("origin") else { return false };
    let scheme = if client.https { "https" } else { "http" };
    origin == site.public_url
        || text("host").is_some_and(|host| origin == format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_to_our_own_pages_only() {
        for path in ["/", "/@bob", "/@bob/12", "/?before=12#note-12"] {
            assert!(is_ours(path), "{path}");
        }
        for path in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\r\nx", "@b"]
        {
            assert!(!is_ours(path), "{path}");
        }
    }
}
