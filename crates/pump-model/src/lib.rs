//! The nouns of the feed: ids, handles, limits. No I/O.
