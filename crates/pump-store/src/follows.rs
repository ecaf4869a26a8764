//! Follows that hold. Each is known by the activity that made it, which is also what its pages go by.

use pump_model::limits::MAX_FOLLOWING;
use pump_model::{AccountId, ActivityId, Listing, Page, Timestamp};
use rusqlite::Transaction;

use crate::Store;
use crate::accounts::{self, Account, COLUMNS};
use crate::activities::{self, Activity, Deeds, Recorded};
use crate::error::{Error, Fault};
use crate::rows::{Sql, all, bounds, column, count, listing, one};

fn standing(
    transaction: &Transaction<'_>,
    follower: AccountId,
    followed: AccountId,
) -> Result<Option<ActivityId>, Fault> {
    let sql = "SELECT activity FROM follows WHERE follower = ?1 AND followed = ?2";
    one(transaction, sql, (Sql(follower), Sql(followed)), |row| column(row, "activity"))
}

pub(crate) fn end(transaction: &Transaction<'_>, activity: ActivityId) -> Result<(), Fault> {
    transaction
        .prepare_cached("DELETE FROM follows WHERE activity = ?1")?
        .execute([Sql(activity)])?;
    Ok(())
}

impl Store {
    /// Follows somebody.
    ///
    /// # Errors
    /// [`Error::OwnFollow`], [`Error::NotFound`] for an account that is not here, [`Error::TooMany`]
    /// beyond [`MAX_FOLLOWING`], and those of writing.
    pub fn follow(
        &self,
        follower: AccountId,
        followed: AccountId,
        now: Timestamp,
    ) -> Result<Recorded, Error> {
        if follower == followed {
            return Err(Error::OwnFollow);
        }
        self.write(|transaction| {
            if accounts::by_id(transaction, followed)?.is_none() {
                return Err(Fault::not_found("account"));
            }
            if let Some(before) = standing(transaction, follower, followed)? {
                let before = activities::existing(transaction, before, follower)?;
                return Ok(Recorded::Already(before));
            }
            let sql = "SELECT count(*) FROM follows WHERE follower = ?1";
            if count(transaction, sql, [Sql(follower)])? >= MAX_FOLLOWING as u64 {
                return Err(Error::TooMany { what: "follows", limit: MAX_FOLLOWING }.into());
            }
            let activity =
                activities::record(transaction, follower, &Deeds::Follow(followed), now)?;
            transaction
                .prepare_cached(
                    "INSERT INTO follows (activity, follower, followed) VALUES (?1, ?2, ?3)",
                )?
                .execute((Sql(activity), Sql(follower), Sql(followed)))?;
            Ok(Recorded::New(activities::existing(transaction, activity, follower)?))
        })
    }

    /// Unfollows somebody. Nothing when they were not followed.
    ///
    /// # Errors
    /// Those of writing.
    pub fn unfollow(
        &self,
        follower: AccountId,
        followed: AccountId,
        now: Timestamp,
    ) -> Result<Option<Activity>, Error> {
        self.write(|transaction| match standing(transaction, follower, followed)? {
            None => Ok(None),
            Some(id) => activities::undo_standing(transaction, follower, id, now).map(Some),
        })
    }

    /// Whether the one follows the other.
    ///
    /// # Errors
    /// Those of reading.
    pub fn is_following(&self, follower: AccountId, followed: AccountId) -> Result<bool, Error> {
        let sql = "SELECT count(*) FROM follows WHERE follower = ?1 AND followed = ?2";
        let params = (Sql(follower), Sql(followed));
        self.read(|connection| Ok(count(connection, sql, params)? > 0))
    }

    /// Who follows somebody, the latest first. [`crate::Totals::followers`] counts them.
    ///
    /// # Errors
    /// Those of reading.
    pub fn followers(
        &self,
        account: AccountId,
        page: Page<ActivityId>,
    ) -> Result<Listing<Account, ActivityId>, Error> {
        self.one_side("follower", "followed", account, page)
    }

    /// Whom somebody follows, the latest first. [`crate::Totals::following`] counts them.
    ///
    /// # Errors
    /// Those of reading.
    pub fn following(
        &self,
        account: AccountId,
        page: Page<ActivityId>,
    ) -> Result<Listing<Account, ActivityId>, Error> {
        self.one_side("followed", "follower", account, page)
    }

    fn one_side(
        &self,
        listed: &str,
        given: &str,
        account: AccountId,
        page: Page<ActivityId>,
    ) -> Result<Listing<Account, ActivityId>, Error> {
        let (before, limit) = bounds(page);
        let sql = format!(
            "SELECT {COLUMNS}, f.activity AS activity FROM follows f JOIN accounts a ON a.id = f.{listed}
             WHERE f.{given} = ?1 AND f.activity < ?2 ORDER BY f.activity DESC LIMIT ?3"
        );
        let found = self.read(|connection| {
            all(connection, &sql, (Sql(account), before, limit), |row| {
                Ok((column(row, "activity")?, accounts::account(row)?))
            })
        })?;
        let Listing { items, next } = listing(found, page, |(activity, _)| *activity);
        Ok(Listing { items: items.into_iter().map(|(_, account)| account).collect(), next })
    }
}
