//! Tokens: what somebody who signed in shows from then on.
//!
//! Only the SHA-256 of a token is stored, so a stolen database signs nobody in. A token is random and
//! long, so a plain hash is enough, unlike for a password.

use std::fmt;
use std::time::Duration;

use pump_model::limits::MAX_TOKENS;
use pump_model::{AccountId, Timestamp};
use rusqlite::Connection;
use rusqlite::types::{ToSql, ToSqlOutput};
use sha2::{Digest, Sha256};

use crate::Store;
use crate::accounts::{Account, COLUMNS, account};
use crate::error::{Error, Fault};
use crate::rows::{Sql, count, one};

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// What a token is for. One of a kind is never taken for one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A program's, in an `Authorization` header.
    Bearer,
    /// A browser's, in a cookie.
    Session,
}

impl TokenKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Session => "session",
        }
    }
}

/// A new token, in hexadecimal. Its `Debug` keeps it to itself.
pub struct Token(String);

impl Token {
    /// The token itself, for the one it was made for.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is stored of a token. It tells whether the token is valid, and nobody can sign in with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of this token, valid or not.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The bytes of the hash.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl From<[u8; 32]> for TokenHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl ToSql for TokenHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// Whether `account` has this token for programs.
pub(crate) fn is_valid(
    connection: &Connection,
    token: TokenHash,
    account: AccountId,
    now: Timestamp,
) -> Result<bool, Fault> {
    let sql = "SELECT count(*) FROM tokens
               WHERE hash = ?1 AND account = ?2 AND kind = ?3 AND expires > ?4";
    let params = (token, Sql(account), TokenKind::Bearer.as_str(), Sql(now));
    Ok(count(connection, sql, params)? > 0)
}

impl Store {
    /// Makes a token that is valid for `lifetime`. Beyond [`MAX_TOKENS`] of one kind, the account's
    /// oldest ends.
    ///
    /// # Errors
    /// Those of writing.
    pub fn new_token(
        &self,
        account: AccountId,
        kind: TokenKind,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.write(|transaction| {
            let mut bytes = [0; TOKEN_BYTES];
            getrandom::fill(&mut bytes)?;
            let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            // Nobody misses what has expired, whoever's it was.
            transaction
                .prepare_cached("DELETE FROM tokens WHERE expires <= ?1")?
                .execute([Sql(now)])?;
            transaction
                .prepare_cached(
                    "DELETE FROM tokens WHERE hash IN (
                         SELECT hash FROM tokens WHERE account = ?1 AND kind = ?2
                         ORDER BY created DESC LIMIT -1 OFFSET ?3
                     )",
                )?
                .execute((Sql(account), kind.as_str(), MAX_TOKENS as i64 - 1))?;
            transaction
                .prepare_cached(
                    "INSERT INTO tokens (hash, account, kind, created, expires)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((
                    TokenHash::of(&token),
                    Sql(account),
                    kind.as_str(),
                    Sql(now),
                    Sql(now.after(lifetime)),
                ))?;
            Ok(Token(token))
        })
    }

    /// Whose token this is. Nobody's, when it is unknown, expired, taken back or of another kind.
    ///
    /// # Errors
    /// Those of reading.
    pub fn token_owner(
        &self,
        token: &str,
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<Option<Account>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tokens t JOIN accounts a ON a.id = t.account
             WHERE t.hash = ?1 AND t.kind = ?2 AND t.expires > ?3"
        );
        let params = (TokenHash::of(token), kind.as_str(), Sql(now));
        self.read(|connection| one(connection, &sql, params, account))
    }

    /// Ends a token. Whether there was one.
    ///
    /// # Errors
    /// Those of writing.
    pub fn delete_token(&self, token: &str) -> Result<bool, Error> {
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached("DELETE FROM tokens WHERE hash = ?1")?;
            Ok(statement.execute([TokenHash::of(token)])? > 0)
        })
    }

    /// Ends all tokens of an account. How many there were.
    ///
    /// # Errors
    /// Those of writing.
    pub fn delete_tokens(&self, account: AccountId) -> Result<usize, Error> {
        self.write(|transaction| {
            let mut statement =
                transaction.prepare_cached("DELETE FROM tokens WHERE account = ?1")?;
            Ok(statement.execute([Sql(account)])?)
        })
    }
}
