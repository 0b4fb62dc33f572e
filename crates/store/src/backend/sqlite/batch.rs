//! Batches in few steps. Each step is a message to the thread of a connection and one back, which costs more than what
//! most statements do: so statements that follow each other are one text.

use std::sync::Arc;

use model::Key;
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Row};

use super::{Sqlite, Transaction};
use crate::backend::{Opening, Writes, keys_json, of_stream, signed};
use crate::error::{During, StorageError};
use crate::lease::Fence;
use crate::record::{Record, RecordRow, Values, columns};
use crate::stream::Stream;

/// Rows of one text; SQLite takes 32,766 values in one.
const CHUNK: usize = 64;
/// Texts with up to so many rows are kept in their prepared form.
const KEPT: usize = 4;

/// Rows of two columns are heads, of one say that the writer still leads, the others are what is stored.
const OPENING: &str = concat!(
    "BEGIN IMMEDIATE; ",
    "SELECT stream, revision FROM revisions WHERE stream IN (SELECT value FROM json_each($1)); ",
    "SELECT token FROM leases WHERE name = $2 AND token = $3; ",
    "SELECT ",
    columns!("labels"),
    " FROM resources WHERE (kind, mesh, name) IN ",
    "(SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($4)); ",
    "SELECT ",
    columns!("labels"),
    " FROM insights WHERE (kind, mesh, name) IN ",
    "(SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($5))"
);

impl Sqlite {
    /// Begins a batch and reads what it names.
    pub(crate) async fn open_batch(
        &self,
        streams: &[Stream],
        fence: Option<&Fence>,
        keys: &[Key],
    ) -> Result<(Transaction, Opening), StorageError> {
        const WHAT: &str = "beginning a transaction";
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut inner = self.writer(streams).acquire().await.during(WHAT)?;
        let names: Vec<&str> = streams.iter().map(|stream| stream.name()).collect();
        let names = serde_json::Value::from(names).to_string();
        let read = || {
            sqlx::query(OPENING)
                .bind(names.as_str())
                .bind(fence.map(|fence| fence.lease.as_str()))
                .bind(fence.map(|fence| signed(fence.token)))
                .bind(keys_json(&of_stream(Stream::Configuration, keys)))
                .bind(keys_json(&of_stream(Stream::Insights, keys)))
        };
        let rows = match read().fetch_all(&mut *inner).await {
            Ok(rows) => rows,
            Err(first) => {
                tracing::debug!(error = %first, "undoing what an earlier transaction left");
                let _ = sqlx::query("ROLLBACK").execute(&mut *inner).await;
                read().fetch_all(&mut *inner).await.during(WHAT)?
            }
        };
        let transaction = Transaction { inner, _turn: turn };
        match opening(&rows, streams, fence.is_some()) {
            Ok(opening) => Ok((transaction, opening)),
            Err(error) => {
                transaction.rollback().await;
                Err(error).during(WHAT)
            }
        }
    }
}

fn opening(rows: &[SqliteRow], streams: &[Stream], fenced: bool) -> Result<Opening, sqlx::Error> {
    let mut opening = Opening { deposed: fenced, ..Opening::default() };
    let mut found = Vec::new();
    for row in rows {
        match row.len() {
            1 => opening.deposed = false,
            2 => found.push((row.text(0)?, row.number(1)?.unsigned_abs())),
            _ => opening.records.extend(RecordRow::from_row(row)?.0),
        }
    }
    for stream in streams {
        let head = found.iter().find(|(name, _)| *name == stream.name()).ok_or(sqlx::Error::RowNotFound)?;
        opening.heads.push((*stream, head.1));
    }
    Ok(opening)
}

impl Transaction {
    /// Writes and commits.
    pub(crate) async fn commit_with(mut self, writes: Vec<Writes>) -> Result<(), StorageError> {
        match self.write(writes).await.during("writing resources") {
            Ok(()) => Ok(()),
            Err(error) => {
                self.rollback().await;
                Err(error)
            }
        }
    }

    async fn write(&mut self, writes: Vec<Writes>) -> Result<(), sqlx::Error> {
        let mut text = QueryBuilder::new("");
        let mut rows = 0;
        for Writes { stream, revision, mut records, fresh, removals, horizon } in writes {
            while !records.is_empty() {
                let later = records.split_off(records.len().min(CHUNK));
                rows += records.len();
                insert(&mut text, stream, revision, std::mem::replace(&mut records, later));
                if rows >= CHUNK {
                    text.build().persistent(rows == CHUNK).execute(&mut *self.inner).await?;
                    (text, rows) = (QueryBuilder::new(""), 0);
                }
            }
            rest(&mut text, stream, revision, &fresh, &removals, horizon);
        }
        text.push("COMMIT").build().persistent(rows <= KEPT).execute(&mut *self.inner).await?;
        Ok(())
    }
}

/// Inserts or replaces rows.
fn insert(text: &mut QueryBuilder<sqlx::Sqlite>, stream: Stream, revision: u64, records: Vec<Record>) {
    text.push(format_args!("INSERT INTO {} (", stream.table())).push(concat!(columns!("labels"), ", revision) "));
    text.push_values(records, |mut row, record| {
        let Record { key, version, created, modified, labels, spec, status, sealed_with, owner } = record;
        row.push_bind(key.kind.name());
        row.push_bind(key.mesh.to_string());
        row.push_bind(key.name.to_string());
        row.push_bind(version);
        row.push_bind(created);
        row.push_bind(modified);
        row.push_bind(labels);
        row.push_bind(spec);
        row.push_bind(status);
        row.push_bind(sealed_with);
        row.push_bind(owner.as_ref().map(|owner| owner.kind.name()));
        row.push_bind(owner.as_ref().map(|owner| owner.mesh.to_string()));
        row.push_bind(owner.as_ref().map(|owner| owner.name.to_string()));
        row.push_bind(signed(revision));
    });
    text.push(
        " ON CONFLICT (kind, mesh, name) DO UPDATE SET version = excluded.version, revision = excluded.revision, \
         created = excluded.created, modified = excluded.modified, labels = excluded.labels, spec = excluded.spec, \
         status = excluded.status, sealed_with = excluded.sealed_with, owner_kind = excluded.owner_kind, \
         owner_mesh = excluded.owner_mesh, owner_name = excluded.owner_name; ",
    );
}

/// What a stream gets beside its rows: removals and revision.
fn rest(
    text: &mut QueryBuilder<sqlx::Sqlite>,
    stream: Stream,
    revision: u64,
    fresh: &[Key],
    removals: &[Key],
    horizon: Option<u64>,
) {
    const KEYS: &str = "SELECT value ->> 0, value ->> 1, value ->> 2";
    let (table, name) = (stream.table(), stream.name());
    let revision = signed(revision);
    if !fresh.is_empty() {
        text.push(format_args!("DELETE FROM removals WHERE stream = '{name}' AND (kind, mesh, name) IN ({KEYS} "))
            .push("FROM json_each(")
            .push_bind(keys_json(fresh))
            .push(")); ");
    }
    if !removals.is_empty() {
        text.push(format_args!("DELETE FROM {table} WHERE (kind, mesh, name) IN ({KEYS} FROM json_each("))
            .push_bind(keys_json(removals))
            .push(")); INSERT OR REPLACE INTO removals (stream, revision, kind, mesh, name) SELECT ")
            .push(format_args!("'{name}', "))
            .push_bind(revision)
            .push(", value ->> 0, value ->> 1, value ->> 2 FROM json_each(")
            .push_bind(keys_json(removals))
            .push("); ");
    }
    text.push("UPDATE revisions SET revision = ").push_bind(revision).push(format_args!(" WHERE stream = '{name}'; "));
    if let Some(horizon) = horizon.map(signed) {
        text.push(format_args!("DELETE FROM removals WHERE stream = '{name}' AND revision <= "))
            .push_bind(horizon)
            .push("; UPDATE revisions SET horizon = ")
            .push_bind(horizon)
            .push(format_args!(" WHERE stream = '{name}'; "));
    }
}
