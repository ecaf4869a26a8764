//! Every route there is, by who asks for it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http::{Method, StatusCode};

use crate::app::App;
use crate::problem::Problem;
use crate::{assets, finish, machines, people};

/// Every route: method and path pattern. For tests that want a case for each.
pub fn routes() -> Vec<(Method, &'static str)> {
    table().list
}

pub(crate) fn router(app: App) -> Router {
    let limit = DefaultBodyLimit::max(app.site.body_bytes);
    table()
        .router
        .fallback(async || Problem::not_found("there is no such page"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this cannot be done here; `Allow` says what can",
            )
        })
        .layer(limit)
        .layer(from_fn_with_state(app.clone(), finish::finish))
        .with_state(app)
}

fn table() -> Routes {
    Routes::default()
        // Whoever looks after the process
        .get("/healthz", machines::health::alive)
        .get("/readyz", machines::health::ready)
        // Other servers, and apps
        .get("/.well-known/webfinger", machines::webfinger::find)
        .get("/.well-known/nodeinfo", machines::nodeinfo::links)
        .get("/nodeinfo/2.0", machines::nodeinfo::v2_0)
        .get("/nodeinfo/2.1", machines::nodeinfo::v2_1)
        .get("/users/{name}", machines::actor::get)
        .get("/users/{name}/inbox", machines::collections::inbox)
        .get("/users/{name}/outbox", machines::collections::outbox)
        .get("/users/{name}/followers", machines::collections::followers)
        .get("/users/{name}/following", machines::collections::following)
        .get("/notes/{id}", machines::note::get)
        .get("/activities/{id}", machines::activity::get)
        // Apps, for somebody who signed in
        .post("/users/{name}/outbox", machines::outbox::post)
        .post("/oauth/token", machines::token::issue)
        .post("/oauth/revoke", machines::token::revoke)
        .get("/api/v1/streaming", machines::streaming::named)
        .get("/api/v1/streaming/health", machines::streaming::health)
        .get("/api/v1/streaming/user", machines::streaming::user)
        // Browsers
        .get("/static/{file}", assets::get)
        .get("/", people::home::get)
        .post("/post", people::home::post)
        .get("/login", people::sign_in::form)
        .post("/login", people::sign_in::sign_in)
        .post("/logout", people::sign_in::sign_out)
        .get("/register", people::register::form)
        .post("/register", people::register::register)
        .get("/settings", people::settings::form)
        .post("/settings", people::settings::save)
        .get("/people", people::directory::everybody)
        .get("/@{name}", people::profile::get)
        .get("/@{name}/followers", people::directory::followers)
        .get("/@{name}/following", people::directory::following)
        .post("/@{name}/follow", people::profile::follow)
        .post("/@{name}/unfollow", people::profile::unfollow)
        .get("/@{name}/{id}", people::note::get)
        .post("/@{name}/{id}/like", people::note::like)
        .post("/@{name}/{id}/unlike", people::note::unlike)
        .post("/@{name}/{id}/delete", people::note::delete)
}

/// A router and the list of what is in it, made together so that they cannot differ.
#[derive(Default)]
struct Routes {
    router: Router<App>,
    list: Vec<(Method, &'static str)>,
}

impl Routes {
    fn get<T: 'static>(mut self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.list.push((Method::GET, path));
        Self { router: self.router.route(path, get(handler)), ..self }
    }

    fn post<T: 'static>(mut self, path: &'static str, handler: impl Handler<T, App>) -> Self {
        self.list.push((Method::POST, path));
        Self { router: self.router.route(path, post(handler)), ..self }
    }
}
