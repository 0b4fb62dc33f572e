//! PostgreSQL, shared by the replicas of a control plane.
//!
//! A writer locks the revision rows of its streams first, so writers of one stream come one after the other, and a
//! reader that sees a revision sees everything up to it.

use std::sync::Arc;

use futures::TryStreamExt;
use model::{Key, Kind};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgRow, PgSslMode};

use super::{Changes, Selection, signed};
use crate::error::{During, OpenError, StorageError};
use crate::lease::{Fence, Lease};
use crate::record::{ChangeRow, KeyRow, Record, RecordRow, Values, columns};
use crate::settings::{self, TlsMode};
use crate::stream::Stream;

/// Rows per statement; bounds its memory.
const CHUNK: usize = 1_000;
/// Microseconds since 1970 by the server's clock, the same for every replica.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
/// Of every session. A replica that stops in the middle of a transaction (paused, or cut off) gives its locks up after
/// five seconds, and the server notices a dead client within half a minute.
const SESSION: [(&str, &str); 6] = [
    ("idle_in_transaction_session_timeout", "5s"),
    ("lock_timeout", "15s"),
    ("synchronous_commit", "on"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// Connections to one database.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pool: PgPool,
    /// A pool of one for the listener, so that it never waits for a writer.
    listening: PgPool,
}

/// A write in progress.
pub(crate) struct Transaction {
    inner: sqlx::Transaction<'static, sqlx::Postgres>,
}

/// Keys as one array per column.
struct Columns<'k> {
    kinds: Vec<&'k str>,
    meshes: Vec<&'k str>,
    names: Vec<&'k str>,
}

impl<'k> Columns<'k> {
    fn of(keys: &'k [Key]) -> Self {
        Self {
            kinds: keys.iter().map(|key| key.kind.name()).collect(),
            meshes: keys.iter().map(|key| &*key.mesh).collect(),
            names: keys.iter().map(|key| &*key.name).collect(),
        }
    }
}

impl Postgres {
    /// Connects once to see that it works.
    pub(crate) async fn connect(server: &settings::Postgres) -> Result<Self, OpenError> {
        let options = options(server);
        let pool = PgPoolOptions::new()
            .max_connections(server.max_open_connections.max(1))
            .min_connections(server.min_open_connections)
            .acquire_timeout(server.connection_timeout)
            .max_lifetime(server.max_connection_lifetime)
            .idle_timeout(server.max_connection_idle_time)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await
            .during("connecting")?;
        let listening = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(server.connection_timeout)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(options);
        Ok(Self { pool, listening })
    }

    /// The pool that migrates.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection that hears the hints of other processes.
    pub(crate) async fn listen(&self) -> Result<PgListener, StorageError> {
        const WHAT: &str = "listening for changes";
        let mut listener = PgListener::connect_with(&self.listening).await.during(WHAT)?;
        listener.listen_all(Stream::ALL.map(Stream::channel)).await.during(WHAT)?;
        Ok(listener)
    }

    pub(crate) async fn begin(&self) -> Result<Transaction, StorageError> {
        Ok(Transaction { inner: self.pool.begin().await.during("beginning a transaction")? })
    }

    pub(crate) async fn changes(&self, stream: Stream, after: u64) -> Result<Changes, StorageError> {
        let text = format!(
            concat!(
                "SELECT ",
                columns!("labels::text"),
                ", 0::bigint FROM {table} WHERE revision > $2 AND revision <= $3 ",
                "UNION ALL SELECT kind, mesh, name, 0, 0, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, 1 ",
                "FROM removals WHERE stream = $1 AND revision > $2 AND revision <= $3 ",
                "UNION ALL SELECT '', '', '', revision, horizon, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, 2 ",
                "FROM revisions WHERE stream = $1"
            ),
            table = stream.table()
        );
        let mut rows = sqlx::query_as::<_, ChangeRow>(AssertSqlSafe(text))
            .bind(stream.name())
            .bind(signed(after))
            // No limit, yet it matters: of a range with two ends the planner expects little and takes the index, also
            // when it knows nothing of the table. With one end it expects a third and reads everything.
            .bind(i64::MAX)
            .fetch(&self.pool);
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
                columns!("labels::text"),
                " FROM {table} WHERE kind = $1 AND ($2::text IS NULL OR mesh = $2) AND labels @> $3::text::jsonb ",
                "ORDER BY mesh, name"
            ),
            table = Stream::of(selection.kind).table()
        );
        let labels: serde_json::Map<String, serde_json::Value> =
            selection.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let rows = sqlx::query_as::<_, RecordRow>(AssertSqlSafe(text))
            .bind(selection.kind.name())
            .bind(selection.mesh.as_deref())
            .bind(serde_json::Value::from(labels).to_string())
            .fetch_all(&self.pool)
            .await
            .during("listing resources")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        let keys = Columns::of(std::slice::from_ref(key));
        let row = sqlx::query_as::<_, RecordRow>(AssertSqlSafe(fetch_text(Stream::of(key.kind))))
            .bind(keys.kinds)
            .bind(keys.meshes)
            .bind(keys.names)
            .fetch_optional(&self.pool)
            .await
            .during("reading a resource")?;
        Ok(row.and_then(|row| row.0))
    }

    pub(crate) async fn acquire(&self, name: &str, holder: &str, ttl: i64) -> Result<Option<Lease>, StorageError> {
        let text = format!(
            "INSERT INTO leases AS l (name, holder, token, expires) VALUES ($1, $2, 1, {NOW} + $3) \
             ON CONFLICT (name) DO UPDATE SET holder = $2, expires = {NOW} + $3, \
             token = l.token + CASE WHEN l.holder <> $2 OR l.expires <= {NOW} THEN 1 ELSE 0 END \
             WHERE l.holder = $2 OR l.expires <= {NOW} RETURNING token"
        );
        let row = sqlx::query(AssertSqlSafe(text))
            .bind(name)
            .bind(holder)
            .bind(ttl)
            .fetch_optional(&self.pool)
            .await
            .during("taking a lease")?;
        let token = row.map(|row| row.number(0)).transpose().during("taking a lease")?;
        Ok(token.map(|token| Lease::new(name, holder, token)))
    }

    pub(crate) async fn release(&self, fence: &Fence) -> Result<(), StorageError> {
        sqlx::query("UPDATE leases SET expires = 0 WHERE name = $1 AND token = $2")
            .bind(&fence.lease)
            .bind(signed(fence.token))
            .execute(&self.pool)
            .await
            .during("giving a lease back")?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.listening.close().await;
        self.pool.close().await;
    }
}

fn options(server: &settings::Postgres) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(&server.password)
        .database(&server.db_name)
        .application_name(env!("CARGO_PKG_NAME"))
        .options(SESSION)
        .ssl_mode(match server.tls.mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::VerifyNone => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    if let Some(path) = &server.tls.ca_path {
        options = options.ssl_root_cert(path);
    }
    if let Some(path) = &server.tls.cert_path {
        options = options.ssl_client_cert(path);
    }
    if let Some(path) = &server.tls.key_path {
        options = options.ssl_client_key(path);
    }
    options
}

fn fetch_text(stream: Stream) -> String {
    format!(
        concat!(
            "SELECT ",
            columns!("labels::text"),
            " FROM {table} WHERE (kind, mesh, name) IN (SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[]))"
        ),
        table = stream.table()
    )
}

impl Transaction {
    pub(crate) async fn lock(&mut self, streams: &[Stream]) -> Result<Vec<(Stream, u64)>, StorageError> {
        // Without the wait for the disk that configuration needs.
        let lazily = streams == [Stream::Insights];
        let mut heads = Vec::new();
        for stream in streams {
            let row = sqlx::query(
                "SELECT revision, CASE WHEN $2 THEN set_config('synchronous_commit', 'off', true) END \
                 FROM revisions WHERE stream = $1 FOR UPDATE",
            )
            .bind(stream.name())
            .bind(lazily)
            .fetch_one(&mut *self.inner)
            .await
            .during("waiting for other writers")?;
            heads.push((*stream, row.number(0).during("reading the revision")?.unsigned_abs()));
        }
        Ok(heads)
    }

    pub(crate) async fn holds(&mut self, fence: &Fence) -> Result<bool, StorageError> {
        let row = sqlx::query("SELECT 1 FROM leases WHERE name = $1 AND token = $2 FOR SHARE")
            .bind(&fence.lease)
            .bind(signed(fence.token))
            .fetch_optional(&mut *self.inner)
            .await
            .during("checking a lease")?;
        Ok(row.is_some())
    }

    pub(crate) async fn fetch(&mut self, stream: Stream, keys: &[Key]) -> Result<Vec<Record>, StorageError> {
        let keys = Columns::of(keys);
        let rows = sqlx::query_as::<_, RecordRow>(AssertSqlSafe(fetch_text(stream)))
            .bind(keys.kinds)
            .bind(keys.meshes)
            .bind(keys.names)
            .fetch_all(&mut *self.inner)
            .await
            .during("reading what a batch changes")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn owned_by(&mut self, stream: Stream, owners: &[Key]) -> Result<Vec<(Key, Key)>, StorageError> {
        let keys = Columns::of(owners);
        let text = format!(
            "SELECT kind, mesh, name, owner_kind, owner_mesh, owner_name FROM {} WHERE (owner_kind, owner_mesh, \
             owner_name) IN (SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[]))",
            stream.table()
        );
        let rows = sqlx::query(AssertSqlSafe(text))
            .bind(keys.kinds)
            .bind(keys.meshes)
            .bind(keys.names)
            .fetch_all(&mut *self.inner)
            .await
            .during("reading what is owned")?;
        let pair = |row: &PgRow| Ok(row.key(3)?.zip(row.key(0)?));
        rows.iter().filter_map(|row| pair(row).transpose()).collect::<Result<_, _>>().during("reading what is owned")
    }

    pub(crate) async fn in_mesh(&mut self, stream: Stream, mesh: &str) -> Result<Vec<Key>, StorageError> {
        let text = format!("SELECT kind, mesh, name FROM {} WHERE mesh = $1", stream.table());
        let rows = sqlx::query_as::<_, KeyRow>(AssertSqlSafe(text))
            .bind(mesh)
            .fetch_all(&mut *self.inner)
            .await
            .during("reading what a mesh holds")?;
        Ok(rows.into_iter().filter_map(|row| row.0).collect())
    }

    pub(crate) async fn put(
        &mut self,
        stream: Stream,
        revision: u64,
        records: Vec<Record>,
    ) -> Result<(), StorageError> {
        let text: Arc<str> = format!(
            "INSERT INTO {} (kind, mesh, name, version, revision, created, modified, labels, spec, status, \
             sealed_with, owner_kind, owner_mesh, owner_name) \
             SELECT kind, mesh, name, version, $14, created, modified, labels::jsonb, spec, status, \
             sealed_with, owner_kind, owner_mesh, owner_name \
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], \
             $8::bytea[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[]) \
             AS c(kind, mesh, name, version, created, modified, labels, spec, status, sealed_with, owner_kind, \
             owner_mesh, owner_name) \
             ON CONFLICT (kind, mesh, name) DO UPDATE SET version = EXCLUDED.version, revision = EXCLUDED.revision, \
             created = EXCLUDED.created, modified = EXCLUDED.modified, labels = EXCLUDED.labels, \
             spec = EXCLUDED.spec, status = EXCLUDED.status, sealed_with = EXCLUDED.sealed_with, \
             owner_kind = EXCLUDED.owner_kind, owner_mesh = EXCLUDED.owner_mesh, owner_name = EXCLUDED.owner_name",
            stream.table()
        )
        .into();
        for records in records.chunks(CHUNK) {
            let owner = |part: fn(&Key) -> &str| -> Vec<Option<&str>> {
                records.iter().map(|record| record.owner.as_ref().map(part)).collect()
            };
            sqlx::query(AssertSqlSafe(Arc::clone(&text)))
                .bind(records.iter().map(|record| record.key.kind.name()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| &*record.key.mesh).collect::<Vec<_>>())
                .bind(records.iter().map(|record| &*record.key.name).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.version).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.created).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.modified).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.labels.as_str()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.spec.as_slice()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.status.as_deref()).collect::<Vec<_>>())
                .bind(records.iter().map(|record| record.sealed_with.as_deref()).collect::<Vec<_>>())
                .bind(owner(|owner| owner.kind.name()))
                .bind(owner(|owner| &owner.mesh))
                .bind(owner(|owner| &owner.name))
                .bind(signed(revision))
                .execute(&mut *self.inner)
                .await
                .during("writing resources")?;
        }
        Ok(())
    }

    pub(crate) async fn revive(&mut self, stream: Stream, keys: &[Key]) -> Result<(), StorageError> {
        let keys = Columns::of(keys);
        sqlx::query(
            "DELETE FROM removals WHERE stream = $1 AND (kind, mesh, name) IN \
             (SELECT * FROM UNNEST($2::text[], $3::text[], $4::text[]))",
        )
        .bind(stream.name())
        .bind(keys.kinds)
        .bind(keys.meshes)
        .bind(keys.names)
        .execute(&mut *self.inner)
        .await
        .during("writing resources")?;
        Ok(())
    }

    pub(crate) async fn remove(&mut self, stream: Stream, revision: u64, keys: &[Key]) -> Result<(), StorageError> {
        let text = format!(
            "WITH gone AS (DELETE FROM {} WHERE (kind, mesh, name) IN \
             (SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[])) RETURNING kind, mesh, name) \
             INSERT INTO removals (stream, kind, mesh, name, revision) SELECT $4, kind, mesh, name, $5 FROM gone \
             ON CONFLICT (stream, kind, mesh, name) DO UPDATE SET revision = EXCLUDED.revision",
            stream.table()
        );
        let keys = Columns::of(keys);
        sqlx::query(AssertSqlSafe(text))
            .bind(keys.kinds)
            .bind(keys.meshes)
            .bind(keys.names)
            .bind(stream.name())
            .bind(signed(revision))
            .execute(&mut *self.inner)
            .await
            .during("removing resources")?;
        Ok(())
    }

    pub(crate) async fn raise(&mut self, stream: Stream, revision: u64) -> Result<(), StorageError> {
        sqlx::query(
            "WITH raised AS (UPDATE revisions SET revision = $2 WHERE stream = $1 RETURNING 1) \
             SELECT pg_notify($3, '') FROM raised",
        )
        .bind(stream.name())
        .bind(signed(revision))
        .bind(stream.channel())
        .execute(&mut *self.inner)
        .await
        .during("raising the revision")?;
        Ok(())
    }

    pub(crate) async fn forget(&mut self, stream: Stream, horizon: u64) -> Result<(), StorageError> {
        for text in [
            "DELETE FROM removals WHERE stream = $1 AND revision <= $2",
            "UPDATE revisions SET horizon = $2 WHERE stream = $1",
        ] {
            sqlx::query(text)
                .bind(stream.name())
                .bind(signed(horizon))
                .execute(&mut *self.inner)
                .await
                .during("forgetting old removals")?;
        }
        Ok(())
    }

    pub(crate) async fn sealed_otherwise(&mut self, kind: Kind, with: &str) -> Result<Vec<Key>, StorageError> {
        let text = format!(
            "SELECT kind, mesh, name FROM {} WHERE kind = $1 AND sealed_with IS DISTINCT FROM $2",
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

    pub(crate) async fn commit(self) -> Result<(), StorageError> {
        self.inner.commit().await.during("committing")
    }

    pub(crate) async fn rollback(self) {
        // Without a connection the server undoes it by itself.
        let _ = self.inner.rollback().await;
    }
}
