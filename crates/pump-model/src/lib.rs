//! The nouns of the feed: ids, names, texts, pages, limits.
//!
//! Everything here is parsed once at the edge and then passed on as what it is. Nothing here reads a
//! clock, draws a random number, opens a file or knows a wire format: a caller brings `now` and the
//! random bits, and the types of the wire and of the disk are their own.

mod ids;
pub mod limits;
mod names;
mod page;
mod text;
mod time;

pub use ids::{AccountId, ActivityId, InvalidId, NoteId, Position};
pub use names::{Domain, Handle, InvalidHandle, InvalidName, LocalName};
pub use page::{Listing, Page, Viewer};
pub use text::{DisplayName, InvalidText, NoteText, Password, Summary};
pub use time::Timestamp;
