//! Settings out of the configuration: Kuma's `store` and what is ours there (api-and-kumactl 5.2).

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::duration::GoDuration;
use runtime::{Clock, Fatal};
use serde::Deserialize;

use crate::seal::KeyRing;
use crate::settings::{Backend, Postgres, Settings, Tls, TlsMode};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Section {
    r#type: String,
    postgres: PostgresSection,
    sqlite: Sqlite,
    encryption: Encryption,
    #[serde(rename = "unsafeDelete")]
    _for_the_api: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PostgresSection {
    host: String,
    port: u16,
    user: String,
    password: String,
    db_name: String,
    /// Seconds.
    connection_timeout: u64,
    max_connection_idle_time: GoDuration,
    max_connection_lifetime: GoDuration,
    min_open_connections: u32,
    max_open_connections: u32,
    tls: TlsSection,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TlsSection {
    mode: String,
    cert_path: String,
    key_path: String,
    ca_path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sqlite {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Encryption {
    key_file: PathBuf,
}

impl Settings {
    /// The settings that a configuration asks for. PostgreSQL is migrated by `migrate up` alone, as with Kuma.
    ///
    /// # Errors
    /// A number is out of its range, or the keys of the encryption cannot be read.
    pub fn configured(effective: &config::Effective, clock: Clock) -> Result<Self, Fatal> {
        let section: Section = effective
            .section("store")
            .map_err(|error| Fatal::new("cannot use the section store of the configuration").caused_by(error))?;
        let encryption = key_ring(&section.encryption.key_file)?;
        let backend = match section.r#type.as_str() {
            "postgres" => Backend::Postgres(section.postgres.into()),
            "memory" => {
                tracing::warn!("store.type memory: everything is lost when this program stops");
                Backend::SqliteInMemory
            }
            _ => Backend::sqlite(section.sqlite.path),
        };
        Ok(Self { encryption, clock, ..Self::new(backend) })
    }
}

fn key_ring(file: &Path) -> Result<Option<KeyRing>, Fatal> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let unusable = |error| {
        Fatal::new(format!("cannot use the encryption keys \"{}\"", file.display()))
            .caused_by(error)
            .remedy("check store.encryption.keyFile")
    };
    KeyRing::from_file(file).map(Some).map_err(unusable)
}

impl From<PostgresSection> for Postgres {
    fn from(section: PostgresSection) -> Self {
        let length = |duration: GoDuration| duration.to_std().unwrap_or(Duration::MAX);
        Self {
            host: section.host,
            port: section.port,
            user: section.user,
            password: section.password,
            db_name: section.db_name,
            connection_timeout: Duration::from_secs(section.connection_timeout),
            max_open_connections: section.max_open_connections,
            min_open_connections: section.min_open_connections,
            max_connection_lifetime: length(section.max_connection_lifetime),
            max_connection_idle_time: length(section.max_connection_idle_time),
            tls: section.tls.into(),
        }
    }
}

impl From<TlsSection> for Tls {
    fn from(section: TlsSection) -> Self {
        let path = |text: String| (!text.is_empty()).then(|| PathBuf::from(text));
        let mode = match section.mode.as_str() {
            "verifyNone" => TlsMode::VerifyNone,
            "verifyCa" => TlsMode::VerifyCa,
            "verifyFull" => TlsMode::VerifyFull,
            // Others do not pass the validation of the configuration.
            _ => TlsMode::Disable,
        };
        Self {
            mode,
            cert_path: path(section.cert_path),
            key_path: path(section.key_path),
            ca_path: path(section.ca_path),
        }
    }
}

#[cfg(test)]
mod tests {
    use config::{Loader, Role};

    use super::*;

    fn configured(role: Role, sets: &[&str]) -> Result<Settings, Fatal> {
        let loader = sets.iter().fold(Loader::new(role), |loader, set| loader.set(set));
        let mut effective = loader.load().unwrap().effective;
        effective.fill_in(&config::Host { home: Some("/home/k".into()), address: None });
        Settings::configured(&effective, Clock::system())
    }

    /// The section names every key that both control planes read, so this fails when the table gets another.
    #[test]
    fn defaults_are_a_file_in_the_work_directory() {
        for (role, file) in [(Role::Global, "global.db"), (Role::Zone, "zone-default.db")] {
            let settings = configured(role, &[]).unwrap();
            let Backend::Sqlite { path, .. } = settings.backend else { panic!("{role:?}") };
            assert_eq!(path, Path::new("/home/k/.kuma").join(file));
            assert!(settings.encryption.is_none() && !settings.migrate_on_open);
        }
    }

    #[test]
    fn postgres_is_as_kuma_names_it() {
        let sets = [
            "store.type=postgres",
            "store.postgres.host=db",
            "store.postgres.connectionTimeout=7",
            "store.postgres.maxConnectionIdleTime=10m",
            "store.postgres.tls.mode=verifyFull",
            "store.postgres.tls.caPath=/ca.pem",
        ];
        let Backend::Postgres(postgres) = configured(Role::Global, &sets).unwrap().backend else { panic!() };
        assert_eq!((&*postgres.host, postgres.port), ("db", 15432));
        assert_eq!(postgres.connection_timeout, Duration::from_secs(7));
        assert_eq!(postgres.max_connection_idle_time, Duration::from_secs(600));
        assert_eq!(postgres.tls.mode, TlsMode::VerifyFull);
        assert_eq!(postgres.tls.ca_path.as_deref(), Some(Path::new("/ca.pem")));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let told = |sets: &[&str]| configured(Role::Global, sets).unwrap_err().to_string();
        let keys = told(&["store.encryption.keyFile=/nope"]);
        assert!(keys.starts_with("cannot use the encryption keys \"/nope\": "), "{keys}");
        assert!(matches!(configured(Role::Zone, &["store.type=memory"]).unwrap().backend, Backend::SqliteInMemory));
    }
}
