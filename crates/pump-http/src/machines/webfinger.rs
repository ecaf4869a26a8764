//! Finds somebody by their handle (RFC 7033).

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use pump_activity::ACTIVITY_JSON;
use pump_model::{Handle, LocalName};
use serde::Serialize;

use super::{account, open_json};
use crate::app::App;
use crate::extract::Fields;
use crate::problem::Problem;
use crate::site::Site;

const PROFILE_PAGE: &str = "http://webfinger.net/rel/profile-page";

#[derive(Serialize)]
struct Descriptor {
    subject: String,
    aliases: Vec<String>,
    links: Vec<Link>,
}

#[derive(Serialize)]
struct Link {
    rel: &'static str,
    r#type: &'static str,
    href: String,
}

/// `GET /.well-known/webfinger?resource=acct:NAME@DOMAIN`, or with the address of the actor or of the
/// profile page. `rel` may choose among the links.
pub(crate) async fn find(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let site = &app.site;
    let fields = Fields::of(&uri);
    let resource = fields.get("resource").ok_or_else(|| {
        Problem::bad_request("`resource` is missing; it should look like `acct:NAME@DOMAIN`")
    })?;
    let name = name_in(site, resource)?;
    let account = account(&app, name.as_str()).await?;
    let (actor, profile) = (site.actor(&account.name), site.profile(&account.name));
    let mut links = vec![
        Link { rel: "self", r#type: ACTIVITY_JSON, href: actor.clone() },
        Link { rel: PROFILE_PAGE, r#type: "text/html", href: profile.clone() },
    ];
    let wanted = fields.all("rel");
    if !wanted.is_empty() {
        links.retain(|link| wanted.contains(&link.rel));
    }
    let subject = format!("acct:{}@{}", account.name, site.domain);
    let found = Descriptor { subject, aliases: vec![actor, profile], links };
    Ok(open_json("application/jrd+json", &found))
}

/// Whom the resource names: 400 when it is no resource, 404 when it is somebody elsewhere.
fn name_in(site: &Site, resource: &str) -> Result<LocalName, Problem> {
    let nobody = || Problem::not_found("nobody here has that address");
    if let Some(handle) = resource.strip_prefix("acct:") {
        let handle: Handle = handle.parse().map_err(|_| {
            Problem::bad_request("after `acct:` there has to be a handle, `NAME@DOMAIN`")
        })?;
        // People may know the site by the host of its pages as well.
        let host = site.public_url.split_once("://").map_or("", |(_, host)| host);
        let here = handle.domain == site.domain || handle.domain.as_str() == host;
        return if here { Ok(handle.name) } else { Err(nobody()) };
    }
    if resource.starts_with("https://") || resource.starts_with("http://") {
        return site.name_in(resource).ok_or_else(nobody);
    }
    Err(Problem::bad_request("`resource` has to begin with `acct:`, `https://` or `http://`"))
}
