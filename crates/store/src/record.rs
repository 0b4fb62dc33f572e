//! A resource as a row, the same in every database.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use model::{Key, Kind, Labels, Meta, Payload, Resource};
use sqlx::{ColumnIndex, Decode, Error, FromRow, Row, Type};

use crate::seal::{SealFailed, Sealer, UnsealError};

/// Columns of a [`Record`] in the order in which it is decoded; `labels` is text.
macro_rules! columns {
    ($labels:literal) => {
        concat!(
            "kind, mesh, name, version, created, modified, ",
            $labels,
            ", spec, status, sealed_with, owner_kind, owner_mesh, owner_name"
        )
    };
}
pub(crate) use columns;

/// One row of a table of resources.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub key: Key,
    pub version: i64,
    pub created: i64,
    pub modified: i64,
    pub labels: String,
    pub spec: Vec<u8>,
    pub status: Option<Vec<u8>>,
    pub sealed_with: Option<String>,
    pub owner: Option<Key>,
}

/// A stored resource and what owns it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub resource: Arc<Resource>,
    pub owner: Option<Key>,
}

impl Record {
    /// The row of a resource.
    pub(crate) fn seal(stored: &Stored, sealer: &Sealer) -> Result<Self, SealFailed> {
        let Meta { key, labels, created, modified, version } = &stored.resource.meta;
        let (spec, sealed_with) = sealer.seal(key, stored.resource.spec.bytes())?;
        Ok(Self {
            key: key.clone(),
            version: i64::try_from(*version).unwrap_or(i64::MAX),
            created: created.timestamp_micros(),
            modified: modified.timestamp_micros(),
            labels: labels_text(labels),
            spec,
            status: stored.resource.status.as_ref().map(|status| status.bytes().to_vec()),
            sealed_with,
            owner: stored.owner.clone(),
        })
    }

    /// The resource of a row.
    pub(crate) fn unseal(self, sealer: &Sealer) -> Result<Stored, UnsealError> {
        let Self { key, version, created, modified, labels, spec, status, sealed_with, owner } = self;
        let spec = sealer.unseal(&key, spec, sealed_with.as_deref())?;
        let meta = Meta {
            key,
            // Written by `labels_text` alone.
            labels: serde_json::from_str(&labels).unwrap_or_default(),
            created: time(created),
            modified: time(modified),
            version: version.unsigned_abs(),
        };
        let resource = Resource { meta, spec: Payload::from_bytes(spec), status: status.map(Payload::from_bytes) };
        Ok(Stored { resource: Arc::new(resource), owner })
    }
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// Labels as the JSON object of the column.
pub(crate) fn labels_text(labels: &Labels) -> String {
    serde_json::to_string(labels).unwrap_or_else(|_| "{}".to_owned())
}

/// Bounds of a row that has text, numbers and bytes, whatever the database.
pub(crate) trait Values<'r>: Row
where
    usize: ColumnIndex<Self>,
{
    fn text(&'r self, at: usize) -> Result<&'r str, Error>;
    fn optional_text(&'r self, at: usize) -> Result<Option<&'r str>, Error>;
    fn number(&'r self, at: usize) -> Result<i64, Error>;
    fn bytes(&'r self, at: usize) -> Result<Option<Vec<u8>>, Error>;

    /// The key in three columns; `None` when the kind is not one of ours, as after a downgrade.
    fn key(&'r self, at: usize) -> Result<Option<Key>, Error> {
        let kind = self.text(at)?.parse::<Kind>().ok();
        Ok(kind
            .map(|kind| Key::new(kind, self.text(at + 1).unwrap_or_default(), self.text(at + 2).unwrap_or_default())))
    }
}

impl<'r, R: Row> Values<'r> for R
where
    usize: ColumnIndex<R>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn text(&'r self, at: usize) -> Result<&'r str, Error> {
        self.try_get(at)
    }

    fn optional_text(&'r self, at: usize) -> Result<Option<&'r str>, Error> {
        self.try_get(at)
    }

    fn number(&'r self, at: usize) -> Result<i64, Error> {
        self.try_get(at)
    }

    fn bytes(&'r self, at: usize) -> Result<Option<Vec<u8>>, Error> {
        self.try_get(at)
    }
}

/// The key in the first three columns of a row.
pub(crate) struct KeyRow(pub Option<Key>);

impl<'r, R: Row> FromRow<'r, R> for KeyRow
where
    R: Values<'r>,
    usize: ColumnIndex<R>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(Self(row.key(0)?))
    }
}

/// A row of [`columns!`]; `None` when its kind is not one of ours.
pub(crate) struct RecordRow(pub Option<Record>);

impl<'r, R: Row> FromRow<'r, R> for RecordRow
where
    R: Values<'r>,
    usize: ColumnIndex<R>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        let Some(key) = row.key(0)? else {
            tracing::warn!(kind = row.text(0)?, name = row.text(2)?, "skipped a stored resource of an unknown kind");
            return Ok(Self(None));
        };
        let owner = if row.optional_text(10)?.is_some() { row.key(10)? } else { None };
        Ok(Self(Some(Record {
            key,
            version: row.number(3)?,
            created: row.number(4)?,
            modified: row.number(5)?,
            labels: row.text(6)?.to_owned(),
            spec: row.bytes(7)?.unwrap_or_default(),
            status: row.bytes(8)?,
            sealed_with: row.optional_text(9)?.map(str::to_owned),
            owner,
        })))
    }
}

/// What a row of the change query is, by its last column.
pub(crate) enum ChangeRow {
    Put(Record),
    Removed(Key),
    /// Revision and horizon of the stream.
    Head {
        revision: i64,
        horizon: i64,
    },
    /// Of a kind that is not one of ours.
    Unknown,
}

impl<'r, R: Row> FromRow<'r, R> for ChangeRow
where
    R: Values<'r>,
    usize: ColumnIndex<R>,
{
    fn from_row(row: &'r R) -> Result<Self, Error> {
        Ok(match row.number(13)? {
            0 => RecordRow::from_row(row)?.0.map_or(Self::Unknown, Self::Put),
            1 => row.key(0)?.map_or(Self::Unknown, Self::Removed),
            _ => Self::Head { revision: row.number(3)?, horizon: row.number(4)? },
        })
    }
}
