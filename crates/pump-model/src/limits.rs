//! How much a stranger may bring, in one place.

/// Longest name of an account, in characters (all of them ASCII).
pub const MAX_NAME: usize = 30;

/// Longest domain, in bytes (RFC 1035, 2.3.4), a port not counted.
pub const MAX_DOMAIN: usize = 253;

/// Longest display name, in characters.
pub const MAX_DISPLAY_NAME: usize = 60;

/// Longest summary on a profile, in characters.
pub const MAX_SUMMARY: usize = 500;

/// Longest note, in characters of its source.
pub const MAX_NOTE: usize = 5_000;

/// Shortest password, in bytes.
pub const MIN_PASSWORD: usize = 8;

/// Longest password, in bytes. A longer one is refused before any hashing.
pub const MAX_PASSWORD: usize = 256;

/// Most entries on a page. Who asks for more gets this many.
pub const MAX_PAGE: usize = 40;

/// Entries on a page when nobody says how many.
pub const DEFAULT_PAGE: usize = 20;

/// Most accounts that one account may follow: the home feed is put together from them when it is read.
pub const MAX_FOLLOWING: usize = 5_000;

/// Most sign-ins of one account that are valid at one time. One more ends the oldest.
pub const MAX_TOKENS: usize = 50;
