//! Durable truth: every resource of a control plane, in SQLite or PostgreSQL, read as snapshots.
//!
//! A write is a [`Batch`]: one transaction, one revision. The revision is a row raised inside that transaction, so its
//! order is the order of commits. [`Store::apply`] returns once the local [`Snapshot`](model::Snapshot) holds what was
//! written, so a caller reads its own writes.
//!
//! Resources come in two [streams](Stream): *configuration*, and *insights*, which tell how it fares. Each has its own
//! table, revision and snapshot; an insight never wakes what waits for configuration.
//!
//! Signals (a commit in this process, `NOTIFY` from another) only say *look again*: the feed then reads every row
//! above the revision it has. A timer looks again as well, so that a lost signal costs latency and nothing else.

mod apply;
mod backend;
mod batch;
mod configured;
mod error;
mod feed;
mod lease;
mod metrics;
mod migrate;
mod plan;
mod record;
mod seal;
mod settings;
mod store;
mod stream;
#[cfg(feature = "test-support")]
pub mod test_support;

#[cfg(feature = "test-support")]
pub use backend::simulated;

pub use backend::Selection;
pub use batch::{Applied, ApplyError, Batch, Write};
pub use error::{Fault, OpenError, StorageError};
pub use lease::{Candidate, Fence, Lease};
pub use metrics::Metrics;
pub use migrate::{Migrated, migrate};
pub use seal::{KeyRing, KeyRingError};
pub use settings::{Backend, Postgres, Settings, Tls, TlsMode};

pub use store::Store;
pub use stream::Stream;
