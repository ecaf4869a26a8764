//! Pages of a feed, and who looks at them.
//!
//! A page is named by the id it starts after, not by a number: what is posted in the meantime then
//! neither repeats an entry on the next page nor hides one.

use crate::AccountId;
use crate::limits::{DEFAULT_PAGE, MAX_PAGE};

/// Which part of a listing, newest first, is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<I> {
    before: Option<I>,
    limit: usize,
}

impl<I> Page<I> {
    /// The newest entries.
    pub fn first() -> Self {
        Self { before: None, limit: DEFAULT_PAGE }
    }

    /// The entries older than `id`.
    pub fn before(id: I) -> Self {
        Self { before: Some(id), limit: DEFAULT_PAGE }
    }

    /// At most `limit` entries: at least 1, and no more than [`MAX_PAGE`].
    #[must_use]
    pub fn of(self, limit: usize) -> Self {
        Self { limit: limit.clamp(1, MAX_PAGE), ..self }
    }

    /// How many entries at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The entry it starts after, if it is not the first page.
    pub fn starts_after(&self) -> Option<&I> {
        self.before.as_ref()
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T, I> {
    /// The entries, newest first.
    pub items: Vec<T>,
    /// What [`Page::before`] takes for the next page; nothing when this was the last.
    pub next: Option<I>,
}

/// Who is looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody who has not signed in.
    Anonymous,
    /// Somebody with an account here.
    Known(AccountId),
}

impl Viewer {
    /// The account, if there is one.
    pub fn account(self) -> Option<AccountId> {
        match self {
            Self::Anonymous => None,
            Self::Known(account) => Some(account),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_bounds() {
        assert_eq!(Page::<u8>::first().limit(), DEFAULT_PAGE);
        assert_eq!(Page::before(1).of(0).limit(), 1);
        assert_eq!(Page::before(1).of(usize::MAX).limit(), MAX_PAGE);
        assert_eq!(Page::before(1).of(5).starts_after(), Some(&1));
    }
}
