//! Events as they are written (HTML, section 9.2).
//!
//! Each has a name and data in one line: a well-known library stops at an event that lacks either.

use std::collections::BTreeMap;

use pump_model::{AccountId, Position};
use pump_store::{Event, Happened, Poster};

use super::status;
use crate::site::Site;

/// A sign of life, which is no event.
pub(super) const THUMP: &str = ":thump\n\n";

/// Something that was published. None when its poster is not known, which cannot be.
pub(super) fn event(
    site: &Site,
    event: &Event,
    posters: &BTreeMap<AccountId, Poster>,
) -> Option<String> {
    let id = event.position;
    Some(match &event.happened {
        Happened::Posted(note) => {
            let status = status::of(site, note, posters.get(&event.actor)?);
            let json = serde_json::to_string(&status).expect("wire types have a JSON form");
            format!("event: update\nid: {id}\ndata: {json}\n\n")
        }
        Happened::Deleted(note) => format!("event: delete\nid: {id}\ndata: {note}\n\n"),
    })
}

/// Where a stream begins, for who has seen no event yet when the connection breaks.
pub(super) fn position(place: Position) -> String {
    format!("event: position\nid: {place}\ndata: {{}}\n\n")
}

/// What happened before this is not told: the client has to load the home feed.
pub(super) fn gap(place: Position) -> String {
    format!("event: gap\nid: {place}\ndata: {{}}\n\n")
}

/// The last words: come back after so many milliseconds, from here.
pub(super) fn come_back(place: Position, after_millis: u64) -> String {
    format!("event: position\nid: {place}\nretry: {after_millis}\ndata: {{}}\n\n")
}
