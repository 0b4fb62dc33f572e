//! SQLite: one file, WAL, one connection per stream that writes and a few that read.
//!
//! The configuration's connection syncs the log before a commit returns (`synchronous=FULL`); the insights' does not
//! (NORMAL), so a power cut may lose the last of them, never tear one.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use model::{Key, Kind};
use sqlx::AssertSqlSafe;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::presence::Presence;
use super::{Changes, Selection, keys_json, signed};
use crate::error::{During, OpenError, StorageError};
use crate::lease::{Fence, Lease};
use crate::record::{ChangeRow, KeyRow, Record, RecordRow, Values, columns};
use crate::stream::Stream;

mod batch;

const BEGIN: &str = "BEGIN IMMEDIATE";
const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The log is cut back to this after a checkpoint, in bytes.
const LOG_LIMIT: &str = "67108864";
/// Microseconds since 1970 by the database's clock.
const NOW: &str = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

/// Pools of one file.
#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    configuration: SqlitePool,
    insights: SqlitePool,
    readers: SqlitePool,
    /// Held by whoever writes: waiting here is fair and prompt, SQLite's own waiting is neither.
    turn: Arc<Mutex<()>>,
    /// None in memory, and where files cannot be locked.
    presence: Option<Arc<Presence>>,
}

/// A write in progress. Not one of sqlx's transactions: SQLite undoes a transaction by itself when the disk is full,
/// and sqlx would count it as open for ever.
///
/// Ends with [`commit`](Self::commit) or [`rollback`](Self::rollback); one that was dropped is undone by the next.
pub(crate) struct Transaction {
    inner: PoolConnection<sqlx::Sqlite>,
    _turn: OwnedMutexGuard<()>,
}

impl Sqlite {
    /// Opens a file, creating it and its folder when missing.
    pub(crate) async fn open(path: &Path, max_pages: Option<u32>) -> Result<Self, OpenError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?;
        }
        // For its owner alone: secrets are in it. If it cannot be made, the next step says why.
        let _ = std::fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let presence = Presence::come(path).await;
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("journal_size_limit", LOG_LIMIT);
        if let Some(pages) = max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let writer = |synchronous| {
            let options = options.clone().synchronous(synchronous);
            forever(1).connect_with(options)
        };
        let configuration = writer(SqliteSynchronous::Full).await.during("opening the database file")?;
        let presence = match presence {
            Some(presence) => {
                if presence.is_alone() {
                    end_leases(&configuration).await.during("ending the leases of the dead")?;
                }
                presence.settle().await.map(Arc::new)
            }
            None => None,
        };
        Ok(Self {
            configuration,
            insights: writer(SqliteSynchronous::Normal).await.during("opening the database file")?,
            readers: forever(READERS)
                .connect_with(options.clone().read_only(true))
                .await
                .during("opening the database file")?,
            turn: Arc::default(),
            presence,
        })
    }

    /// A database that lives in this process alone.
    pub(crate) async fn in_memory() -> Result<Self, OpenError> {
        let pool = forever(1)
            .connect_with(SqliteConnectOptions::new().filename(":memory:"))
            .await
            .during("opening the database in memory")?;
        let turn = Arc::default();
        Ok(Self { configuration: pool.clone(), insights: pool.clone(), readers: pool, turn, presence: None })
    }

    /// The connection that migrates.
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.configuration
    }

    pub(crate) async fn begin(&self, streams: &[Stream]) -> Result<Transaction, StorageError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut inner = self.writer(streams).acquire().await.during("beginning a transaction")?;
        if let Err(first) = sqlx::query(BEGIN).execute(&mut *inner).await {
            tracing::debug!(error = %first, "undoing what an earlier transaction left");
            let _ = sqlx::query("ROLLBACK").execute(&mut *inner).await;
            sqlx::query(BEGIN).execute(&mut *inner).await.during("beginning a transaction")?;
        }
        Ok(Transaction { inner, _turn: turn })
    }

    /// The pool that writes to these streams.
    fn writer(&self, streams: &[Stream]) -> &SqlitePool {
        if streams == [Stream::Insights] { &self.insights } else { &self.configuration }
    }

    pub(crate) async fn changes(&self, stream: Stream, after: u64) -> Result<Changes, StorageError> {
        let text = format!(
            concat!(
                "SELECT ",
                columns!("labels"),
                ", 0 FROM {table} WHERE revision > $2 ",
                "UNION ALL SELECT kind, mesh, name, 0, 0, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, 1 ",
                "FROM removals WHERE stream = $1 AND revision > $2 ",
                "UNION ALL SELECT '', '', '', revision, horizon, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, 2 ",
                "FROM revisions WHERE stream = $1"
            ),
            table = stream.table()
        );
        let mut rows = sqlx::query_as::<_, ChangeRow>(AssertSqlSafe(text))
            .bind(stream.name())
            .bind(signed(after))
            .fetch(&self.readers);
        let mut changes = Changes::default();
        while let Some(row) = rows.try_next().await.during("reading changes")? {
            changes.add(row, after);
        }
        Ok(changes)
    }

    pub(crate) async fn list(&self, selection: &Selection) -> Result<Vec<Record>, StorageError> {
        let text = format!(
            concat!(
                "SELECT ",
                columns!("labels"),
                " FROM {table} WHERE kind = $1 AND ($2 IS NULL OR mesh = $2) AND NOT EXISTS (",
                "SELECT 1 FROM json_each($3) wanted WHERE NOT EXISTS (SELECT 1 FROM json_each(labels) label ",
                "WHERE label.key = wanted.value ->> 0 AND label.value = wanted.value ->> 1)) ORDER BY mesh, name"
            ),
            table = Stream::of(selection.kind).table()
        );
        let labels: Vec<serde_json::Value> =
            selection.labels.iter().map(|(key, value)| vec![key.as_str(), value.as_str()].into()).collect();
        let rows = sqlx::query_as::<_, RecordRow>(AssertSqlSafe(text))
            .bind(selection.kind.name())
            .bind(selection.mesh.as_deref())
            .bind(serde_json::Value::from(labels).to_string())
            .fetch_all(&self.readers)
            .await
            .during("listing resources")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        let row = sqlx::query_as::<_, RecordRow>(AssertSqlSafe(fetch_text(Stream::of(key.kind))))
            .bind(keys_json(std::slice::from_ref(key)))
            .fetch_optional(&self.readers)
            .await
            .during("reading a resource")?;
        Ok(row.and_then(|row| row.0))
    }

    pub(crate) async fn acquire(&self, name: &str, holder: &str, ttl: i64) -> Result<Option<Lease>, StorageError> {
        let _turn = self.turn.lock().await;
        let text = format!(
            "INSERT INTO leases (name, holder, token, expires) VALUES ($1, $2, 1, {NOW} + $3) \
             ON CONFLICT (name) DO UPDATE SET holder = $2, expires = {NOW} + $3, \
             token = token + (holder <> $2 OR expires <= {NOW}) WHERE holder = $2 OR expires <= {NOW} RETURNING token"
        );
        let row = sqlx::query(AssertSqlSafe(text))
            .bind(name)
            .bind(holder)
            .bind(ttl)
            .fetch_optional(&self.configuration)
            .await
            .during("taking a lease")?;
        let token = row.map(|row| row.number(0)).transpose().during("taking a lease")?;
        Ok(token.map(|token| Lease::new(name, holder, token)))
    }

    pub(crate) async fn release(&self, fence: &Fence) -> Result<(), StorageError> {
        let _turn = self.turn.lock().await;
        sqlx::query("UPDATE leases SET expires = 0 WHERE name = $1 AND token = $2")
            .bind(&fence.lease)
            .bind(signed(fence.token))
            .execute(&self.configuration)
            .await
            .during("giving a lease back")?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.insights.close().await;
        self.configuration.close().await;
        if let Some(presence) = &self.presence {
            presence.leave();
        }
    }
}

/// Ends all leases, of which there are none before the first migration.
async fn end_leases(configuration: &SqlitePool) -> Result<(), sqlx::Error> {
    let known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'leases'";
    if sqlx::query(known).fetch_optional(configuration).await?.is_some() {
        // It writes, and syncs the disk, only when there are some.
        sqlx::query("UPDATE leases SET expires = 0 WHERE expires > 0").execute(configuration).await?;
    }
    Ok(())
}

/// A pool whose connections stay: the database in memory lives in one.
fn forever(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

fn fetch_text(stream: Stream) -> String {
    format!(
        concat!(
            "SELECT ",
            columns!("labels"),
            " FROM {table} WHERE (kind, mesh, name) IN ",
            "(SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))"
        ),
        table = stream.table()
    )
}

impl Transaction {
    pub(crate) async fn lock(&mut self, streams: &[Stream]) -> Result<Vec<(Stream, u64)>, StorageError> {
        let mut heads = Vec::new();
        for stream in streams {
            let row = sqlx::query("SELECT revision FROM revisions WHERE stream = $1")
                .bind(stream.name())
                .fetch_one(&mut *self.inner)
                .await
                .during("reading the revision")?;
            heads.push((*stream, row.number(0).during("reading the revision")?.unsigned_abs()));
        }
        Ok(heads)
    }

    pub(crate) async fn fetch(&mut self, stream: Stream, keys: &[Key]) -> Result<Vec<Record>, StorageError> {
        let rows = sqlx::query_as::<_, RecordRow>(AssertSqlSafe(fetch_text(stream)))
            .bind(keys_json(keys))
            .fetch_all(&mut *self.inner)
            .await
            .during("reading what a batch changes")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn owned_by(&mut self, stream: Stream, owners: &[Key]) -> Result<Vec<(Key, Key)>, StorageError> {
        let text = format!(
            "SELECT kind, mesh, name, owner_kind, owner_mesh, owner_name FROM {} WHERE (owner_kind, owner_mesh, \
             owner_name) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1))",
            stream.table()
        );
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(keys_json(owners))
            .fetch_all(&mut *self.inner)
            .await
            .during("reading what is owned")?;
        let pair = |row: &sqlx::sqlite::SqliteRow| Ok(row.key(3)?.zip(row.key(0)?));
        rows.iter().filter_map(|row| pair(row).transpose()).collect::<Result<_, _>>().during("reading what is owned")
    }

    pub(crate) async fn in_mesh(&mut self, stream: Stream, mesh: &str) -> Result<Vec<Key>, StorageError> {
        let rows = sqlx::query_as::<_, KeyRow>(AssertSqlSafe(format!(
            "SELECT kind, mesh, name FROM {} WHERE mesh = $1",
            stream.table()
        )))
        .bind(mesh)
        .fetch_all(&mut *self.inner)
        .await
        .during("reading what a mesh holds")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn sealed_otherwise(&mut self, kind: Kind, with: &str) -> Result<Vec<Key>, StorageError> {
        let text = format!(
            "SELECT kind, mesh, name FROM {} WHERE kind = $1 AND sealed_with IS NOT $2",
            Stream::of(kind).table()
        );
        let rows = sqlx::query_as::<_, KeyRow>(AssertSqlSafe(text))
            .bind(kind.name())
            .bind(with)
            .fetch_all(&mut *self.inner)
            .await
            .during("looking for secrets to encrypt")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn reseal(&mut self, record: &Record) -> Result<(), StorageError> {
        let text = format!(
            "UPDATE {} SET spec = $4, sealed_with = $5 WHERE kind = $1 AND mesh = $2 AND name = $3",
            Stream::of(record.key.kind).table()
        );
        sqlx::query(AssertSqlSafe(text))
            .bind(record.key.kind.name())
            .bind(&*record.key.mesh)
            .bind(&*record.key.name)
            .bind(&record.spec)
            .bind(&record.sealed_with)
            .execute(&mut *self.inner)
            .await
            .during("encrypting secrets")?;
        Ok(())
    }

    pub(crate) async fn commit(mut self) -> Result<(), StorageError> {
        let committed = sqlx::query("COMMIT").execute(&mut *self.inner).await.during("committing");
        if committed.is_err() {
            self.rollback().await;
        }
        committed.map(|_| ())
    }

    pub(crate) async fn rollback(mut self) {
        // It fails when SQLite has undone the transaction already.
        let _ = sqlx::query("ROLLBACK").execute(&mut *self.inner).await;
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    async fn pragma(pool: &SqlitePool, name: &str) -> String {
        let row = sqlx::query(AssertSqlSafe(format!("PRAGMA {name}"))).fetch_one(pool).await.unwrap();
        row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string())).unwrap()
    }

    #[tokio::test]
    async fn configuration_is_synced_and_insights_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&folder.path().join("new/global.db"), None).await.unwrap();
        assert_eq!(pragma(&database.configuration, "synchronous").await, "2", "FULL");
        assert_eq!(pragma(&database.insights, "synchronous").await, "1", "NORMAL");
        assert_eq!(pragma(&database.readers, "journal_mode").await, "wal");
        let refused = sqlx::query("CREATE TABLE t (a)").execute(&database.readers).await.unwrap_err();
        assert!(refused.to_string().contains("readonly"), "{refused}");
    }
}
