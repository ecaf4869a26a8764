//! Why the store did not do something.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use pump_model::LocalName;
use rusqlite::ErrorCode;

/// Why the store did not do something. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A later release has contracted the database past this code.
    #[error(
        "the database `{}` is at version {found_version}, made for code of version {found_compat} or \
         later, and this code is of version {ours}", path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found_version: u32,
        /// The oldest version whose code still works on it.
        found_compat: u32,
        /// The version of this code.
        ours: u32,
    },
    /// A later release has been at the database, and what is asked is its business.
    #[error(
        "the database `{}` is at version {found_version}, and this code, of version {ours}, does not \
         know what is left to do there", path.display()
    )]
    Later {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found_version: u32,
        /// The version of this code.
        ours: u32,
    },
    /// There is no database, or one that is older than this code.
    #[error(
        "the database `{}` is at version {found_version} (0: there is none), and this code needs \
         version {ours}: run `pumpd migrate`", path.display()
    )]
    NotMigrated {
        /// The database file.
        path: PathBuf,
        /// The version it has; 0 when there is none.
        found_version: u32,
        /// The version of this code.
        ours: u32,
    },
    /// The folder is missing, or it or the file may not be written.
    #[error("cannot write to `{}`", path.display())]
    NotWritable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The file is damaged, or is not ours.
    #[error("the database `{}` cannot be used: {reason}", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Others used the database for longer than we wait. Trying again may work.
    #[error("the database `{}` is busy", path.display())]
    Busy {
        /// The database file.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("no space left for the database `{}`", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// After [`crate::Store::close`].
    #[error("the database `{}` has been closed", path.display())]
    Closed {
        /// The database file.
        path: PathBuf,
    },
    /// Something else went wrong between us and the disk.
    #[error("could not use the database `{}`", path.display())]
    Failed {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the system said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The address that every published id begins with would change.
    #[error(
        "`public_url` is `{configured}`, but accounts on this server have been published under \
         `{stored}`, and others know them by it"
    )]
    PublicUrlChanged {
        /// Under which the first account was made.
        stored: String,
        /// In the configuration now.
        configured: String,
    },
    /// There is an account of this name.
    #[error("the name `{0}` is taken")]
    NameTaken(LocalName),
    /// The name is kept for the server itself.
    #[error("the name `{0}` is kept for the server itself")]
    NameReserved(LocalName),
    /// There is no such account, note or activity (any more).
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// It belongs to somebody else.
    #[error("this {what} is somebody else's")]
    Forbidden {
        /// What it is.
        what: &'static str,
    },
    /// Following oneself.
    #[error("nobody can follow themselves")]
    OwnFollow,
    /// Only a follow or a like can be undone.
    #[error("only a follow or a like can be undone")]
    NotUndoable,
    /// A named limit is reached.
    #[error("at most {limit} {what} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are possible.
        limit: usize,
    },
}

impl Error {
    /// Whether another write, of anything, could fail in the same way.
    pub(crate) fn may_recur(&self) -> bool {
        use Error::{Busy, Closed, Corrupt, Failed, Full, NotWritable};
        matches!(
            self,
            NotWritable { .. }
                | Corrupt { .. }
                | Full { .. }
                | Failed { .. }
                | Busy { .. }
                | Closed { .. }
        )
    }

    /// Whether the machine had no room for it, on the disk or in memory: nothing is wrong with the database
    /// or with the code.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Failed { source, .. } => {
                let source = source.downcast_ref::<rusqlite::Error>();
                source.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::OutOfMemory)
            }
            _ => false,
        }
    }

    pub(crate) fn not_writable(path: &Path, source: io::Error) -> Self {
        Self::NotWritable { path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }
}

/// An error on its way out of a query, where the file's path is not known yet.
pub(crate) enum Fault {
    /// Already a sentence.
    Said(Error),
    /// From SQLite.
    Sql(rusqlite::Error),
    /// From the system's source of random bits.
    Random(getrandom::Error),
    /// Something stored is not what it must be.
    Damaged(&'static str),
    /// Others use for longer than we wait what there is little of.
    Busy,
}

impl Fault {
    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::Said(Error::NotFound { what })
    }

    pub(crate) fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        let source = match self {
            Self::Said(error) => return error,
            Self::Random(source) => return Error::Failed { path, source: Box::new(source) },
            Self::Damaged(reason) => return Error::Corrupt { path, reason: reason.to_owned() },
            Self::Busy => return Error::Busy { path },
            Self::Sql(source) => source,
        };
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy { path },
            Some(ErrorCode::DiskFull) => Error::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Corrupt { path, reason: source.to_string() }
            }
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Error::NotWritable { path, source: Box::new(source) }
            }
            Some(_) => Error::Failed { path, source: Box::new(source) },
            // Not from SQLite's library but from reading a row: something in it is not what it must be.
            None => Error::Corrupt { path, reason: source.to_string() },
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<getrandom::Error> for Fault {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}
