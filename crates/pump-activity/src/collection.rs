//! Lists, and their pages.

use serde::Serialize;

/// An `OrderedCollection`: how many there are and where the first page is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "OrderedCollection", rename_all = "camelCase")]
pub struct Collection {
    /// The collection's id, a URL.
    pub id: String,
    /// How many items there are over all pages, where that is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_items: Option<u64>,
    /// The newest page.
    pub first: String,
}

/// One page, newest items first.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "OrderedCollectionPage", rename_all = "camelCase")]
pub struct CollectionPage<T> {
    /// The page's id, a URL.
    pub id: String,
    /// The collection it is a page of.
    pub part_of: String,
    /// The items.
    pub ordered_items: Vec<T>,
    /// The page with older items; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many items there are over all pages, where that is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_items: Option<u64>,
}
