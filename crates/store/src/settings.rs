//! Where the truth lives and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use runtime::Clock;

use crate::seal::KeyRing;

/// How to open a [`Store`](crate::Store).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database.
    pub backend: Backend,
    /// Keys that secrets are encrypted with at rest; `None` stores them plain.
    pub encryption: Option<KeyRing>,
    /// Tells creation and modification times.
    pub clock: Clock,
    /// Whether [`Store::open`](crate::Store::open) migrates PostgreSQL; SQLite is always migrated.
    pub migrate_on_open: bool,
    /// How long one database operation may take.
    pub deadline: Duration,
    /// How often the feed looks for changes that no signal told of.
    pub safety_interval: Duration,
}

impl Settings {
    /// Defaults: no encryption, the system's clock, no migration of PostgreSQL, 30 s per operation, a look every 5 s.
    pub fn new(backend: Backend) -> Self {
        Self {
            backend,
            encryption: None,
            clock: Clock::system(),
            migrate_on_open: false,
            deadline: Duration::from_secs(30),
            safety_interval: Duration::from_secs(5),
        }
    }
}

/// A database.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per process")]
pub enum Backend {
    /// One file, for one control plane.
    Sqlite {
        /// The file; it and its folder are created when missing.
        path: PathBuf,
        /// Largest size of the file in pages of 4 KiB; `None`: as large as the disk.
        max_pages: Option<u32>,
    },
    /// Gone with the process.
    SqliteInMemory,
    /// A server, for several replicas of a control plane.
    Postgres(Postgres),
    /// A disk of a simulation.
    #[cfg(feature = "test-support")]
    Simulated(crate::simulated::Mount),
}

impl Backend {
    /// A file without a limit.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite { path: path.into(), max_pages: None }
    }
}

/// Kuma's `store.postgres` (api-and-kumactl 5.2).
#[derive(Clone)]
pub struct Postgres {
    /// Host name, address, or folder of a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password of the role.
    pub password: String,
    /// Database.
    pub db_name: String,
    /// How long to wait for a connection.
    pub connection_timeout: Duration,
    /// Most connections; one more listens for changes.
    pub max_open_connections: u32,
    /// Connections that are kept open.
    pub min_open_connections: u32,
    /// A connection is closed at this age.
    pub max_connection_lifetime: Duration,
    /// A connection is closed when unused for so long.
    pub max_connection_idle_time: Duration,
    /// Encryption of connections.
    pub tls: Tls,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 15432,
            user: "kuma".into(),
            password: "kuma".into(),
            db_name: "kuma".into(),
            connection_timeout: Duration::from_secs(5),
            max_open_connections: 50,
            min_open_connections: 0,
            max_connection_lifetime: Duration::from_secs(3600),
            max_connection_idle_time: Duration::from_secs(1800),
            tls: Tls::default(),
        }
    }
}

/// Without the password.
impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, db_name, tls, .. } = self;
        f.debug_struct("Postgres")
            .field("host", host)
            .field("port", port)
            .field("user", user)
            .field("db_name", db_name)
            .field("tls", tls)
            .finish_non_exhaustive()
    }
}

/// Kuma's `store.postgres.tls`.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// How much is checked.
    pub mode: TlsMode,
    /// Client certificate, PEM.
    pub cert_path: Option<PathBuf>,
    /// Key of the client certificate, PEM.
    pub key_path: Option<PathBuf>,
    /// Authorities that may have signed the server's certificate, PEM.
    pub ca_path: Option<PathBuf>,
}

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// No encryption.
    #[default]
    Disable,
    /// Encryption, nothing checked.
    VerifyNone,
    /// The authority.
    VerifyCa,
    /// The authority and the host's name.
    VerifyFull,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_printed() {
        let settings = Settings::new(Backend::Postgres(Postgres { password: "hunter2".into(), ..Postgres::default() }));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
