//! What kind of server this is and how many people use it (NodeInfo 2.1, FEP-f1d5).

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::open_json;
use crate::app::App;
use crate::problem::Problem;

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");
const SCHEMA: &str = "http://nodeinfo.diaspora.software/ns/schema";

/// `GET /.well-known/nodeinfo`
pub(crate) async fn links(State(app): State<App>) -> Response {
    let link = |version: &str| {
        let href = app.site.url(&format!("/nodeinfo/{version}"));
        json!({"rel": format!("{SCHEMA}/{version}"), "href": href})
    };
    open_json("application/json", &json!({"links": [link("2.0"), link("2.1")]}))
}

/// `GET /nodeinfo/2.0`
pub(crate) async fn v2_0(State(app): State<App>) -> Result<Response, Problem> {
    let software = json!({"name": "pump", "version": app.site.version});
    let kind = "application/json; profile=\"http://nodeinfo.diaspora.software/ns/schema/2.0#\"";
    Ok(open_json(kind, &info(&app, "2.0", software).await?))
}

/// `GET /nodeinfo/2.1`
pub(crate) async fn v2_1(State(app): State<App>) -> Result<Response, Problem> {
    let software = json!({"name": "pump", "version": app.site.version, "repository": REPOSITORY});
    let kind = "application/json; profile=\"http://nodeinfo.diaspora.software/ns/schema/2.1#\"";
    Ok(open_json(kind, &info(&app, "2.1", software).await?))
}

async fn info(app: &App, version: &str, software: Value) -> Result<Value, Problem> {
    let usage = app.usage().await?;
    Ok(json!({
        "version": version,
        "software": software,
        "protocols": ["activitypub"],
        "services": {"inbound": [], "outbound": []},
        "openRegistrations": app.site.open_registration,
        "usage": {
            "users": {
                "total": usage.users,
                "activeMonth": usage.active_month,
                "activeHalfyear": usage.active_half_year,
            },
            "localPosts": usage.posts,
        },
        "metadata": {"nodeName": app.site.name},
    }))
}
