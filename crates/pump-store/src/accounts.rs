//! Accounts: who is here, and how they prove it.

use pump_model::{AccountId, DisplayName, Listing, LocalName, Page, Password, Summary, Timestamp};
use rusqlite::{Connection, Row};

use crate::error::{Error, Fault};
use crate::rows::{Sql, all, bounds, column, count, fresh, listing, one};
use crate::{Store, password, site};

/// An account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name here.
    pub name: LocalName,
    /// How they call themselves; perhaps empty.
    pub display_name: String,
    /// What they say about themselves, plain text; perhaps empty.
    pub summary: String,
    /// Since when.
    pub created: Timestamp,
}

/// What an account is made of.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its name here.
    pub name: LocalName,
    /// How they call themselves.
    pub display_name: DisplayName,
    /// Their password.
    pub password: Password,
}

/// What a profile counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Notes that are not deleted.
    pub notes: u64,
    /// Entries of the outbox.
    pub activities: u64,
    /// Who follows them.
    pub followers: u64,
    /// Whom they follow.
    pub following: u64,
}

/// The columns that [`account`] reads, of a table or alias `a`.
pub(crate) const COLUMNS: &str = "
    a.id AS id, a.name AS name, a.display_name AS display_name, a.summary AS summary,
    a.created AS created";

pub(crate) fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: column(row, "id")?,
        name: column(row, "name")?,
        display_name: row.get("display_name")?,
        summary: row.get("summary")?,
        created: column(row, "created")?,
    })
}

pub(crate) fn by_id(connection: &Connection, id: AccountId) -> Result<Option<Account>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM accounts a WHERE a.id = ?1");
    one(connection, &sql, [Sql(id)], account)
}

pub(crate) fn totals(connection: &Connection, id: AccountId) -> Result<Totals, Fault> {
    let count = |sql| count(connection, sql, [Sql(id)]);
    Ok(Totals {
        notes: count("SELECT count(*) FROM notes WHERE author = ?1 AND deleted IS NULL")?,
        activities: count("SELECT count(*) FROM activities WHERE actor = ?1")?,
        followers: count("SELECT count(*) FROM follows WHERE followed = ?1")?,
        following: count("SELECT count(*) FROM follows WHERE follower = ?1")?,
    })
}

impl Store {
    /// Makes an account. The first one pins `public_url` (see [`Store::check_public_url`]). Hashes the
    /// password, which takes tens of milliseconds and 19 MiB.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::NameReserved`], [`Error::PublicUrlChanged`], [`Error::Busy`] when
    /// too many passwords are being hashed, and those of writing.
    pub fn create_account(
        &self,
        new: &NewAccount,
        public_url: &str,
        now: Timestamp,
    ) -> Result<Account, Error> {
        if new.name.is_reserved() {
            return Err(Error::NameReserved(new.name.clone()));
        }
        // Asked again below, where it counts; here it spares the hashing.
        if self.account_by_name(&new.name)?.is_some() {
            return Err(Error::NameTaken(new.name.clone()));
        }
        let hash = password::hash(&new.password).map_err(|fault| fault.at(self.path()))?;
        self.write(|transaction| {
            site::pin(transaction, public_url)?;
            let same = "SELECT count(*) FROM accounts WHERE name = ?1";
            if count(transaction, same, [Sql(&new.name)])? > 0 {
                return Err(Error::NameTaken(new.name.clone()).into());
            }
            let newest = "SELECT coalesce(max(id), 0) FROM accounts";
            let id = fresh(transaction, newest, now, AccountId::new)?;
            transaction
                .prepare_cached(
                    "INSERT INTO accounts (id, name, display_name, summary, password_hash, created)
                     VALUES (?1, ?2, ?3, '', ?4, ?5)",
                )?
                .execute((Sql(id), Sql(&new.name), new.display_name.as_str(), hash, Sql(now)))?;
            by_id(transaction, id)?.ok_or_else(|| Fault::not_found("account"))
        })
    }

    /// The account of this name.
    ///
    /// # Errors
    /// Those of reading.
    pub fn account_by_name(&self, name: &LocalName) -> Result<Option<Account>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM accounts a WHERE a.name = ?1");
        self.read(|connection| one(connection, &sql, [Sql(name)], account))
    }

    /// The account of this id.
    ///
    /// # Errors
    /// Those of reading.
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, Error> {
        self.read(|connection| by_id(connection, id))
    }

    /// The accounts here, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn accounts(&self, page: Page<AccountId>) -> Result<Listing<Account, AccountId>, Error> {
        let (before, limit) = bounds(page);
        let sql =
            format!("SELECT {COLUMNS} FROM accounts a WHERE a.id < ?1 ORDER BY a.id DESC LIMIT ?2");
        let found = self.read(|connection| all(connection, &sql, (before, limit), account))?;
        Ok(listing(found, page, |account| account.id))
    }

    /// The account that has this name and this password. An unknown name takes as long as a wrong
    /// password, so the time tells nobody who has an account here.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many passwords are being hashed, and those of reading.
    pub fn sign_in(&self, name: &str, password: &str) -> Result<Option<Account>, Error> {
        let sql = format!(
            "SELECT {COLUMNS}, a.password_hash AS password_hash FROM accounts a WHERE a.name = ?1"
        );
        let known = match name.parse::<LocalName>() {
            Err(_) => None,
            Ok(name) => self.read(|connection| {
                one(connection, &sql, [Sql(&name)], |row| {
                    Ok((account(row)?, row.get::<_, String>("password_hash")?))
                })
            })?,
        };
        let hash = known.as_ref().map(|(_, hash)| hash.as_str());
        let right = password::verify(password, hash).map_err(|fault| fault.at(self.path()))?;
        Ok(known.filter(|_| right).map(|(account, _)| account))
    }

    /// Changes how somebody presents themselves.
    ///
    /// # Errors
    /// [`Error::NotFound`], and those of writing.
    pub fn set_profile(
        &self,
        id: AccountId,
        display_name: &DisplayName,
        summary: &Summary,
    ) -> Result<Account, Error> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE accounts SET display_name = ?2, summary = ?3 WHERE id = ?1",
                )?
                .execute((Sql(id), display_name.as_str(), summary.as_str()))?;
            by_id(transaction, id)?.ok_or_else(|| Fault::not_found("account"))
        })
    }

    /// What a profile counts.
    ///
    /// # Errors
    /// Those of reading.
    pub fn totals(&self, id: AccountId) -> Result<Totals, Error> {
        self.read(|connection| totals(connection, id))
    }
}
