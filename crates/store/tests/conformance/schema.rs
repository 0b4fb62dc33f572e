//! Versions of the schema.

use store::{Migrated, OpenError, Settings, Store, migrate};

use crate::fixture::Fixture;

pub async fn a_newer_schema_is_refused(fixture: &Fixture) {
    assert_eq!(migrate(&fixture.settings()).await.unwrap(), Migrated { from: 0, to: 1 });
    assert_eq!(migrate(&fixture.settings()).await.unwrap(), Migrated { from: 1, to: 1 });
    fixture.open().await.close().await;
    fixture.migrate_to_99().await;
    for refused in [Store::open(fixture.settings()).await.err(), migrate(&fixture.settings()).await.err()] {
        let refused = refused.unwrap();
        assert!(matches!(refused, OpenError::NewerSchema { found: 99, known: 1 }), "{refused}");
        assert!(refused.to_string().contains("run the newer program"), "{refused}");
    }
}

#[tokio::test]
async fn postgres_is_migrated_only_when_asked() {
    let fixture = Fixture::postgres().await;
    let unasked = Settings { migrate_on_open: false, ..fixture.settings() };
    let refused = Store::open(unasked.clone()).await.unwrap_err();
    assert!(matches!(refused, OpenError::NotMigrated { found: 0, needed: 1 }), "{refused}");
    assert!(refused.to_string().contains("`migrate up`"), "{refused}");
    migrate(&unasked).await.unwrap();
    Store::open(unasked).await.unwrap();
}
