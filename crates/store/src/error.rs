//! What can go wrong with the database itself.

use std::path::PathBuf;
use std::time::Duration;

use crate::seal::UnsealError;

/// Kind of a database's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No room: disk or size limit. Nothing was written.
    Full,
    /// Not reachable, restarting or too slow; try again.
    Unavailable,
    /// Anything else.
    Other,
}

/// A database's failure, with what was being done.
#[derive(Debug, thiserror::Error)]
#[error("{}while {during}: {source}", prefix(*.fault))]
pub struct StorageError {
    fault: Fault,
    during: &'static str,
    source: Source,
}

#[derive(Debug, thiserror::Error)]
enum Source {
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("no answer within {}", humane(*.0))]
    Timeout(Duration),
    #[error("{0}")]
    Seal(#[from] UnsealError),
    #[error("the task was stopped")]
    Stopped,
    #[cfg(feature = "test-support")]
    #[error("the simulated disk is out of reach")]
    OutOfReach,
}

fn prefix(fault: Fault) -> &'static str {
    match fault {
        Fault::Full => "the database is full; free some space and try again: ",
        Fault::Unavailable => "the database is not available: ",
        Fault::Other => "the database failed ",
    }
}

fn humane(length: Duration) -> String {
    format!("{} s", length.as_secs_f32())
}

impl StorageError {
    /// What kind of failure it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    pub(crate) fn timeout(during: &'static str, limit: Duration) -> Self {
        Self { fault: Fault::Unavailable, during, source: Source::Timeout(limit) }
    }

    pub(crate) fn unsealable(during: &'static str, error: UnsealError) -> Self {
        Self { fault: Fault::Other, during, source: Source::Seal(error) }
    }

    pub(crate) fn stopped(during: &'static str) -> Self {
        Self { fault: Fault::Unavailable, during, source: Source::Stopped }
    }

    #[cfg(feature = "test-support")]
    pub(crate) fn out_of_reach(during: &'static str) -> Self {
        Self { fault: Fault::Unavailable, during, source: Source::OutOfReach }
    }
}

/// Says what was being done when a database call failed.
pub(crate) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, StorageError>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, during: &'static str) -> Result<T, StorageError> {
        self.map_err(|error| StorageError { fault: fault_of(&error), during, source: error.into() })
    }
}

fn fault_of(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Fault::Unavailable,
        sqlx::Error::Database(error) => match error.code().as_deref() {
            // SQLITE_FULL, disk_full
            Some("13" | "53100") => Fault::Full,
            // SQLITE_BUSY and its extended codes, SQLITE_LOCKED
            Some("5" | "261" | "517" | "773" | "6" | "262") => Fault::Unavailable,
            // connection_exception, operator_intervention (restart), too many connections, lock_not_available,
            // idle_in_transaction_session_timeout
            Some(code)
                if code.starts_with("08") || code.starts_with("57P") || matches!(code, "53300" | "55P03" | "25P03") =>
            {
                Fault::Unavailable
            }
            _ => Fault::Other,
        },
        _ => Fault::Other,
    }
}

/// Why a store cannot be opened or migrated.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program has been here.
    #[error(
        "the database has schema version {found} and this program knows versions up to {known}; \
         run the newer program that migrated it, or restore a backup made before the migration"
    )]
    NewerSchema {
        /// Version of the database.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A database that is not migrated, and may not be migrated on the way.
    #[error("the database has schema version {found} and this program needs {needed}; run `migrate up` first")]
    NotMigrated {
        /// Version of the database; 0 when it is empty.
        found: i64,
        /// The version that is needed.
        needed: i64,
    },
    /// A migration failed.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The folder of the database file.
    #[error("cannot create the folder {path} of the database: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database failed, or a secret in it cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_being_done_and_what_to_do() {
        let error = Err::<(), _>(sqlx::Error::PoolTimedOut).during("reading changes").unwrap_err();
        assert_eq!(error.fault(), Fault::Unavailable);
        assert!(error.to_string().starts_with("the database is not available: while reading changes: "), "{error}");
        let newer = OpenError::NewerSchema { found: 9, known: 1 }.to_string();
        assert!(newer.contains("version 9") && newer.contains("newer program"), "{newer}");
    }
}
