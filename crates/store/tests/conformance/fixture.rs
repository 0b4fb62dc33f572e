//! A fresh database, and resources to put into it.

use std::path::PathBuf;

use model::{Key, Kind, Labels, Payload, Resource};
use store::test_support::TestPostgres;
use store::{Backend, Settings, Store};
use tempfile::TempDir;

pub struct Fixture {
    pub backend: Backend,
    folder: TempDir,
}

impl Fixture {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { backend: Backend::sqlite(folder.path().join("global.db")), folder }
    }

    pub async fn postgres() -> Self {
        let server = TestPostgres::shared().unwrap();
        Self { backend: Backend::Postgres(server.database().await.unwrap()), folder: tempfile::tempdir().unwrap() }
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
