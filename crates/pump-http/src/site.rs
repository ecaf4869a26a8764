//! What one site is: its name, where it is, and what it allows. Made once by the worker.

use ipnet::IpNet;
use pump_model::{ActivityId, Domain, LocalName, NoteId};

/// The settings that answers depend on.
#[derive(Clone, Debug)]
pub struct Site {
    /// The base of every id that is published, without a slash at its end: `https://social.example`.
    pub public_url: String,
    /// What stands behind the `@` in a handle.
    pub domain: Domain,
    /// What people call the site.
    pub name: String,
    /// Whether anybody may make an account.
    pub open_registration: bool,
    /// Longest body of a request, in bytes.
    pub body_bytes: usize,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What every answer carries as `Pump-Generation`, if anything.
    pub generation_header: Option<String>,
    /// The version of the program, for NodeInfo.
    pub version: String,
}

impl Site {
    /// Whether people reach the site over HTTPS.
    pub(crate) fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public_url)
    }

    /// An actor's id.
    pub(crate) fn actor(&self, name: &LocalName) -> String {
        format!("{}/users/{name}", self.public_url)
    }

    /// The id of one of an actor's collections, such as `followers`.
    pub(crate) fn collection(&self, name: &LocalName, collection: &str) -> String {
        format!("{}/users/{name}/{collection}", self.public_url)
    }

    /// A note's id.
    pub(crate) fn note(&self, id: NoteId) -> String {
        format!("{}/notes/{id}", self.public_url)
    }

    /// An activity's id.
    pub(crate) fn activity(&self, id: ActivityId) -> String {
        format!("{}/activities/{id}", self.public_url)
    }

    /// Somebody's profile page.
    pub(crate) fn profile(&self, name: &LocalName) -> String {
        format!("{}/@{name}", self.public_url)
    }

    /// A note's page.
    pub(crate) fn note_page(&self, author: &LocalName, id: NoteId) -> String {
        format!("{}/@{author}/{id}", self.public_url)
    }

    /// Whose id or profile page this is, if it could be somebody's here.
    pub(crate) fn name_in(&self, id: &str) -> Option<LocalName> {
        let path = id.strip_prefix(&self.public_url)?;
        let name = path.strip_prefix("/users/").or_else(|| path.strip_prefix("/@"))?;
        name.parse().ok()
    }

    /// Which note this is the id or the page of, if it could be one here.
    pub(crate) fn note_in(&self, id: &str) -> Option<NoteId> {
        let path = id.strip_prefix(&self.public_url)?;
        match path.strip_prefix("/notes/") {
            Some(id) => id.parse().ok(),
            None => path.strip_prefix("/@")?.split_once('/')?.1.parse().ok(),
        }
    }

    /// Which activity this is the id of, if it could be one here.
    pub(crate) fn activity_in(&self, id: &str) -> Option<ActivityId> {
        id.strip_prefix(&self.public_url)?.strip_prefix("/activities/")?.parse().ok()
    }
}
