//! Pages for people. All of it works without a script.

pub(crate) mod compose;
pub(crate) mod directory;
pub(crate) mod home;
pub(crate) mod note;
mod posted;
pub(crate) mod profile;
pub(crate) mod register;
pub(crate) mod settings;
mod shown;
pub(crate) mod sign_in;
mod visitor;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};

use crate::assets::{ASSETS, Assets};
use crate::finish::vary;
use crate::problem::Problem;
use crate::site::Site;
use shown::Person;
use visitor::Visitor;

/// What stands around every page.
struct Frame {
    site: String,
    assets: &'static Assets,
    viewer: Option<Person>,
    /// Goes into every form; see [`posted`].
    csrf: String,
    /// Which entry of the navigation this is: `home`, `people`, `login`, or a profile's path.
    place: String,
    /// Path and query of the page, for forms that lead back to it.
    here: String,
}

impl Frame {
    fn new(site: &Site, visitor: &Visitor, place: impl Into<String>, uri: &Uri) -> Self {
        Self {
            site: site.name.clone(),
            assets: &ASSETS,
            viewer: visitor.account.as_ref().map(Person::from),
            csrf: visitor.csrf(),
            place: place.into(),
            here: uri.path_and_query().map_or("/", |here| here.as_str()).to_owned(),
        }
    }
}

/// A page as an answer.
fn page<T: Template>(status: StatusCode, page: &T) -> Result<Response, Problem> {
    let html =
        page.render().map_err(|error| Problem::internal().because("writing a page", error))?;
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
    let mut response = (status, kind, html).into_response();
    vary(response.headers_mut(), "Cookie");
    Ok(response)
}

/// After a form: the browser goes on to this page of ours with a GET.
fn go_to(path: &str) -> Response {
    let target = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response()
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    frame: Frame,
    title: &'a str,
    detail: &'a str,
}

/// A problem for somebody with a browser. It asks the database nothing, so it says nothing about who
/// is signed in.
pub(crate) fn problem_page(site: &Site, problem: &Problem) -> Option<String> {
    let frame = Frame {
        site: site.name.clone(),
        assets: &ASSETS,
        viewer: None,
        csrf: String::new(),
        place: "problem".to_owned(),
        here: "/".to_owned(),
    };
    let mut detail = problem.detail.to_string();
    // A sentence on a page begins like one.
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    ProblemPage { frame, title: problem.title(), detail: &detail }.render().ok()
}
