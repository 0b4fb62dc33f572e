//! Who has a file of SQLite open: a lock on a file beside it, which the kernel takes away from the dead.
//!
//! Everybody holds the lock shared, for life. Who gets it for itself is the only one, so leases that are still running
//! belong to processes that died and end at once. It is a file of its own because SQLite's locks on the database are
//! POSIX locks, which a process loses when it closes any descriptor of the file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at a lock that somebody holds for itself, which is while it ends leases.
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// That this process has the database open, until the value is dropped.
#[derive(Debug)]
pub(super) struct Presence {
    file: File,
    path: PathBuf,
    alone: bool,
}

impl Presence {
    /// Comes to a database. `None`, which is logged, where files cannot be locked: leases end by themselves there too.
    pub(super) async fn come(database: &Path) -> Option<Self> {
        let path = beside(database);
        Self::lock(&path).await.inspect_err(|error| Self::failed(&path, error)).ok()
    }

    async fn lock(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let alone = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                share(&file).await?;
                false
            }
            Err(TryLockError::Error(error)) => return Err(error),
        };
        Ok(Self { file, path: path.to_owned(), alone })
    }

    /// Whether nobody else has it open. Nobody can while this is so.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Lets others come. The lock is not held for a moment in between, so no lease may be taken before this returns.
    pub(super) async fn settle(self) -> Option<Self> {
        if self.alone {
            share(&self.file).await.inspect_err(|error| Self::failed(&self.path, error)).ok()?;
        }
        Some(Self { alone: false, ..self })
    }

    /// Goes before it is dropped.
    pub(super) fn leave(&self) {
        // It fails only where locking did.
        let _ = self.file.unlock();
    }

    fn failed(path: &Path, error: &io::Error) {
        tracing::warn!(path = %path.display(), %error, "cannot lock a file: the leases of the dead end by themselves");
    }
}

async fn share(file: &File) -> io::Result<()> {
    let shared = async {
        loop {
            match file.try_lock_shared() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    tokio::time::timeout(PATIENCE, shared).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn beside(database: &Path) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(".lock");
    path.into()
}
