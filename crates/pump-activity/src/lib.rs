//! ActivityStreams 2.0 as it goes over the wire: JSON in and out. No I/O.
//!
//! Out: [`Person`], [`Note`], [`Activity`], [`Tombstone`] and the collections, put into a [`Document`]
//! that adds `@context`. In: [`submission::parse`] reads what a client POSTs to its outbox.
//!
//! These are wire types. They say how something is written, never what is allowed; an id here is
//! whatever string stood there. JSON is read as JSON, not as JSON-LD: no context is ever fetched and
//! no alias resolved, so nobody can give a property another meaning by sending another context.
//!
//! Sources: <https://www.w3.org/TR/activitystreams-core/>,
//! <https://www.w3.org/TR/activitystreams-vocabulary/>, <https://www.w3.org/TR/activitypub/>.

mod activity;
mod actor;
mod collection;
mod document;
mod json;
mod note;
pub mod submission;

pub use activity::{Activity, ActivityType, Object};
pub use actor::{Endpoints, Person};
pub use collection::{Collection, CollectionPage};
pub use document::Document;
pub use json::{MAX_DEPTH, MAX_VALUES};
pub use note::{Note, Source, Tombstone};

/// The context of every document.
pub const CONTEXT: &str = "https://www.w3.org/ns/activitystreams";

/// Who is meant by "everyone" in `to` and `cc` (ActivityPub 5.6).
pub const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";

/// The media type of a document (ActivityStreams 2.0, section 8).
pub const ACTIVITY_JSON: &str = "application/activity+json";

/// The same, as ActivityPub 3.2 prefers it to be asked for.
pub const LD_JSON: &str = "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"";

/// Whether this is one of the three spellings of [`PUBLIC`] that compaction allows.
pub fn is_public(id: &str) -> bool {
    matches!(id, PUBLIC | "as:Public" | "Public")
}
