//! Making an account, where the site is open.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use pump_model::limits::{MAX_NAME, MIN_PASSWORD};
use pump_model::{DisplayName, LocalName, Password};
use pump_store::NewAccount;

use super::posted::Posted;
use super::sign_in::{begin_session, with_key_cookie};
use super::visitor::Visitor;
use super::{Frame, go_to, page};
use crate::app::App;
use crate::extract::Fields;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "register.html")]
struct Register {
    frame: Frame,
    alert: Option<String>,
    name: String,
    longest_name: usize,
    shortest_password: usize,
}

impl Register {
    fn new(frame: Frame, alert: Option<String>, name: &str) -> Self {
        let name = name.chars().take(MAX_NAME).collect();
        Self { frame, alert, name, longest_name: MAX_NAME, shortest_password: MIN_PASSWORD }
    }
}

fn must_be_open(app: &App) -> Result<(), Problem> {
    if app.site.open_registration {
        return Ok(());
    }
    Err(Problem::forbidden("this site makes accounts by invitation: ask the people who run it"))
}

/// `GET /register`
pub(crate) async fn form(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, Problem> {
    must_be_open(&app)?;
    if visitor.account.is_some() {
        return Ok(go_to("/"));
    }
    let (visitor, key) = visitor.with_key(&app.site)?;
    let frame = Frame::new(&app.site, &visitor, "register", &uri);
    let shown = page(StatusCode::OK, &Register::new(frame, None, ""))?;
    Ok(with_key_cookie(shown, key))
}

/// `POST /register`
pub(crate) async fn register(
    State(app): State<App>,
    uri: Uri,
    Posted { visitor, fields }: Posted,
) -> Result<Response, Problem> {
    must_be_open(&app)?;
    let made = match wanted(&fields) {
        Ok(new) => app.register(visitor.client, new).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok(account) => begin_session(&app, &account).await,
        Err(problem)
            if matches!(
                problem.status,
                StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT
            ) =>
        {
            let frame = Frame::new(&app.site, &visitor, "register", &uri);
            let alert = Some(format!("No account was made: {}.", problem.detail));
            let name = fields.text("username");
            page(problem.status, &Register::new(frame, alert, name))
        }
        Err(problem) => Err(problem),
    }
}

fn wanted(fields: &Fields) -> Result<NewAccount, Problem> {
    let name = LocalName::for_new_account(fields.text("username").trim())
        .map_err(|invalid| Problem::unprocessable(invalid.to_string()))?;
    let password = Password::new(fields.text("password"))?;
    Ok(NewAccount { name, display_name: DisplayName::default(), password })
}
