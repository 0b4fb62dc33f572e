//! The schema's versions, in the binary.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Row, SqlStr};

use crate::backend::Backend;
use crate::backend::postgres::Postgres;
use crate::backend::sqlite::Sqlite;
use crate::error::{During, OpenError, StorageError};
use crate::settings::{self, Settings};

const SQLITE: &[(i64, &str, &str)] = &[(1, "init", include_str!("../migrations/sqlite/0001_init.sql"))];
const POSTGRES: &[(i64, &str, &str)] = &[(1, "init", include_str!("../migrations/postgres/0001_init.sql"))];

/// Versions of the schema before and after a migration; equal when there was nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Before; 0 when the database was empty.
    pub from: i64,
    /// After.
    pub to: i64,
}

/// Brings a database to the schema of this program: `migrate up`.
///
/// # Errors
/// The database is newer, cannot be reached, or a migration fails.
pub async fn migrate(settings: &Settings) -> Result<Migrated, OpenError> {
    let backend = connect(settings).await?;
    let migrated = up(&backend).await;
    backend.close().await;
    migrated
}

/// Connects to the database of the settings.
pub(crate) async fn connect(settings: &Settings) -> Result<Backend, OpenError> {
    Ok(match &settings.backend {
        settings::Backend::Sqlite { path, max_pages } => Backend::Sqlite(Sqlite::open(path, *max_pages).await?),
        settings::Backend::SqliteInMemory => Backend::Sqlite(Sqlite::in_memory().await?),
        settings::Backend::Postgres(server) => Backend::Postgres(Postgres::connect(server).await?),
        #[cfg(feature = "test-support")]
        settings::Backend::Simulated(mount) => Backend::Simulated(mount.connect()),
    })
}

/// Migrates, or only checks that this was done.
pub(crate) async fn up_or_check(backend: &Backend, may_migrate: bool) -> Result<Migrated, OpenError> {
    let needed = newest(backend);
    let found = version(backend).await?;
    if found < needed && !may_migrate && matches!(backend, Backend::Postgres(_)) {
        return Err(OpenError::NotMigrated { found, needed });
    }
    up(backend).await
}

async fn up(backend: &Backend) -> Result<Migrated, OpenError> {
    let (found, known) = (version(backend).await?, newest(backend));
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    if found < known {
        match backend {
            Backend::Sqlite(database) => migrator(SQLITE).run(database.pool()).await?,
            Backend::Postgres(database) => migrator(POSTGRES).run(database.pool()).await?,
            #[cfg(feature = "test-support")]
            Backend::Simulated(database) => database.set_schema(known),
        }
        tracing::info!(from = found, to = known, "migrated the database");
    }
    Ok(Migrated { from: found, to: known })
}

fn newest(backend: &Backend) -> i64 {
    let migrations = match backend {
        Backend::Sqlite(_) => SQLITE,
        Backend::Postgres(_) => POSTGRES,
        #[cfg(feature = "test-support")]
        Backend::Simulated(_) => SQLITE,
    };
    migrations.last().map_or(0, |(version, ..)| *version)
}

/// Newest migration that was applied; 0 when there was none.
async fn version(backend: &Backend) -> Result<i64, StorageError> {
    const WHAT: &str = "reading the schema version";
    const NEWEST: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";
    match backend {
        Backend::Sqlite(database) => {
            let known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
            if sqlx::query(known).fetch_optional(database.pool()).await.during(WHAT)?.is_none() {
                return Ok(0);
            }
            sqlx::query(NEWEST).fetch_one(database.pool()).await.and_then(|row| row.try_get(0)).during(WHAT)
        }
        Backend::Postgres(database) => {
            let known = "SELECT 1 WHERE to_regclass('_sqlx_migrations') IS NOT NULL";
            if sqlx::query(known).fetch_optional(database.pool()).await.during(WHAT)?.is_none() {
                return Ok(0);
            }
            sqlx::query(NEWEST).fetch_one(database.pool()).await.and_then(|row| row.try_get(0)).during(WHAT)
        }
        #[cfg(feature = "test-support")]
        Backend::Simulated(database) => database.schema().await,
    }
}

fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |(version, name, text): &(i64, &'static str, &'static str)| {
        Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, SqlStr::from_static(text), false)
    };
    Migrator { migrations: migrations.iter().map(migration).collect(), ..Migrator::DEFAULT }
}
