//! A fresh database, and resources to put into it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{Key, Kind, Labels, Payload, Resource};
use runtime::Clock;
use sqlx::{Connection, PgConnection, SqliteConnection};
use store::simulated::Disk;
use store::test_support::TestPostgres;
use store::{Backend, Settings, Store};
use tempfile::TempDir;

pub struct Fixture {
    pub backend: Backend,
    /// Of a simulated one.
    pub disk: Option<Disk>,
    folder: TempDir,
}

impl Fixture {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { backend: Backend::sqlite(folder.path().join("global.db")), disk: None, folder }
    }

    pub async fn postgres() -> Self {
        let server = TestPostgres::shared().unwrap();
        let backend = Backend::Postgres(server.database().await.unwrap());
        Self { backend, disk: None, folder: tempfile::tempdir().unwrap() }
    }

    pub fn simulated() -> Self {
        let disk = Disk::new(Clock::system());
        Self { backend: Backend::Simulated(disk.mount()), disk: Some(disk), folder: tempfile::tempdir().unwrap() }
    }

    pub fn settings(&self) -> Settings {
        Settings { migrate_on_open: true, ..Settings::new(self.backend.clone()) }
    }

    pub async fn open(&self) -> Store {
        Store::open(self.settings()).await.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

pub fn mesh(name: &str) -> Resource {
    resource(Key::global(Kind::Mesh, name), "mesh")
}

pub fn dataplane(mesh: &str, name: &str) -> Resource {
    resource(Key::new(Kind::Dataplane, mesh, name), "dataplane")
}

pub fn zone(name: &str) -> Resource {
    resource(Key::global(Kind::Zone, name), "zone")
}

pub fn resource(key: Key, content: &str) -> Resource {
    Resource::new(key, Labels::default(), Payload::from_bytes(content.as_bytes().to_vec()))
}

pub fn with_content(resource: &Resource, content: &str) -> Resource {
    Resource { spec: Payload::from_bytes(content.as_bytes().to_vec()), ..resource.clone() }
}

pub fn content(resource: &Resource) -> &str {
    std::str::from_utf8(resource.spec.bytes()).unwrap()
}

impl Fixture {
    /// Runs statements beside the store.
    pub async fn execute(&self, text: &'static str) {
        match &self.backend {
            Backend::Postgres(server) => {
                sqlx::raw_sql(text).execute(&mut postgres(server).await).await.unwrap();
            }
            _ => {
                sqlx::raw_sql(text).execute(&mut self.sqlite_connection().await).await.unwrap();
            }
        }
    }

    /// Takes a mesh away and every memory of removals, as a batch does once in a thousand revisions.
    pub async fn leap_without_mesh_a(&self) {
        if let Some(disk) = &self.disk {
            return disk.leap(&mesh("a").meta.key, 9);
        }
        self.execute(
            "DELETE FROM resources WHERE name = 'a'; DELETE FROM removals; \
             UPDATE revisions SET revision = 9, horizon = 8 WHERE stream = 'configuration'",
        )
        .await;
    }

    /// Lets a program with schema version 99 have been here.
    pub async fn migrate_to_99(&self) {
        if let Some(disk) = &self.disk {
            return disk.set_schema(99);
        }
        self.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             SELECT 99, description, success, checksum, execution_time FROM _sqlx_migrations",
        )
        .await;
    }

    /// The stored form of a secret's spec.
    pub async fn stored_spec(&self, name: &str) -> Vec<u8> {
        const TEXT: &str = "SELECT spec FROM resources WHERE name = $1";
        if let Some(disk) = &self.disk {
            return disk.stored(&Key::new(Kind::Secret, "default", name)).unwrap().0;
        }
        match &self.backend {
            Backend::Postgres(server) => {
                sqlx::query_scalar(TEXT).bind(name).fetch_one(&mut postgres(server).await).await.unwrap()
            }
            _ => sqlx::query_scalar(TEXT).bind(name).fetch_one(&mut self.sqlite_connection().await).await.unwrap(),
        }
    }

    /// Id of the key that a secret is encrypted with.
    pub async fn stored_key_id(&self, name: &str) -> Option<String> {
        const TEXT: &str = "SELECT sealed_with FROM resources WHERE name = $1";
        if let Some(disk) = &self.disk {
            return disk.stored(&Key::new(Kind::Secret, "default", name)).unwrap().1;
        }
        match &self.backend {
            Backend::Postgres(server) => {
                sqlx::query_scalar(TEXT).bind(name).fetch_one(&mut postgres(server).await).await.unwrap()
            }
            _ => sqlx::query_scalar(TEXT).bind(name).fetch_one(&mut self.sqlite_connection().await).await.unwrap(),
        }
    }

    async fn sqlite_connection(&self) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite:{}", self.path("global.db").display())).await.unwrap()
    }
}

async fn postgres(server: &store::Postgres) -> PgConnection {
    TestPostgres::shared().unwrap().connect(&server.db_name).await.unwrap()
}

/// Tries until it holds.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "it did not come to hold");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
