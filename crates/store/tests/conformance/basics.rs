//! Reading and writing.

use model::{Key, Kind, Labels, Payload, Resource};
use store::{ApplyError, Batch, Selection};

use crate::fixture::{Fixture, content, dataplane, mesh, resource, with_content};

pub async fn a_resource_is_created_read_changed_and_deleted(fixture: &Fixture) {
    let store = fixture.open().await;
    let labels: Labels = [("kuma.io/zone", "east"), ("a \"quoted\" key", "ü")].into_iter().collect();
    let key = Key::new(Kind::MeshService, "default", "backend");
    let new = Resource::new(key.clone(), labels.clone(), Payload::from_bytes(&b"{\"x\":\"\\u0000\"}"[..]));

    let applied = store.apply(Batch::new().create(new.clone())).await.unwrap();
    assert_eq!(applied.revision, 1);
    let created = &applied.resources[0];
    assert!(created.same_content(&new));
    assert_eq!((created.meta.version, created.meta.created), (1, created.meta.modified));
    assert_eq!(store.get(&key).await.unwrap().as_ref(), Some(created));

    let applied = store.apply(Batch::new().update(with_content(created, "2"))).await.unwrap();
    let updated = &applied.resources[0];
    assert_eq!((updated.meta.version, updated.meta.created), (2, created.meta.created));
    assert!(updated.meta.modified >= created.meta.modified);
    assert_eq!(updated.meta.labels, labels);
    assert_eq!(store.get(&key).await.unwrap().as_ref(), Some(updated));

    let applied = store.apply(Batch::new().delete(key.clone())).await.unwrap();
    assert_eq!((applied.revision, applied.removed), (3, vec![key.clone()]));
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert!(store.apply(Batch::new().remove(key.clone())).await.unwrap().removed.is_empty());
    let again = store.apply(Batch::new().delete(key.clone())).await.unwrap_err();
    assert!(matches!(&again, ApplyError::NotFound(missing) if *missing == key), "{again}");
}

pub async fn a_write_of_another_version_is_refused(fixture: &Fixture) {
    let store = fixture.open().await;
    let created = store.apply(Batch::new().create(mesh("m"))).await.unwrap().resources.remove(0);
    store.apply(Batch::new().update(with_content(&created, "first"))).await.unwrap();

    let late = store.apply(Batch::new().update(with_content(&created, "second"))).await.unwrap_err();
    assert!(matches!(late, ApplyError::Conflict { expected: 1, actual: 2, .. }), "{late}");
    let delete = store::Write::Delete { key: created.meta.key.clone(), version: Some(1) };
    let late = store.apply(Batch::new().with(delete)).await.unwrap_err();
    assert!(matches!(late, ApplyError::Conflict { expected: 1, actual: 2, .. }), "{late}");
    let twice = store.apply(Batch::new().create(mesh("m"))).await.unwrap_err();
    assert_eq!(twice.to_string(), r#"Mesh "m" already exists"#);
    assert_eq!(content(&store.get(&created.meta.key).await.unwrap().unwrap()), "first");
}

pub async fn a_batch_is_all_or_nothing(fixture: &Fixture) {
    let store = fixture.open().await;
    store.apply(Batch::new().create(mesh("old"))).await.unwrap();
    let batch = Batch::new().create(mesh("new")).delete(mesh("old").meta.key).create(mesh("new"));
    assert!(matches!(store.apply(batch).await.unwrap_err(), ApplyError::AlreadyExists(_)));

    let names: Vec<_> = store.list(&Selection::of(Kind::Mesh)).await.unwrap();
    assert_eq!(names.iter().map(|mesh| &*mesh.meta.key.name).collect::<Vec<_>>(), ["old"]);
    let snapshot = store.configuration().borrow().clone();
    assert_eq!((snapshot.revision(), snapshot.len()), (1, 1));

    let batch: Batch = (0..100).map(|n| store::Write::Put { resource: mesh(&format!("m{n}")), owner: None }).collect();
    assert_eq!(store.apply(batch).await.unwrap().revision, 2, "one batch, one revision");
    assert_eq!(store.configuration().borrow().len(), 101);
}

pub async fn a_put_of_equal_content_wakes_nobody(fixture: &Fixture) {
    let store = fixture.open().await;
    let first = store.apply(Batch::new().put(mesh("m"))).await.unwrap();
    let mut watcher = store.configuration();
    watcher.mark_unchanged();
    let second = store.apply(Batch::new().put(mesh("m"))).await.unwrap();
    assert_eq!(second.revision, first.revision);
    assert_eq!(second.resources, first.resources);
    assert!(!watcher.has_changed().unwrap());
    let third = store.apply(Batch::new().put(resource(mesh("m").meta.key, "other"))).await.unwrap();
    assert_eq!(third.resources[0].meta.version, 2);
    assert!(watcher.has_changed().unwrap());
}

pub async fn lists_select_by_mesh_and_labels(fixture: &Fixture) {
    let store = fixture.open().await;
    let labelled = |mesh: &str, name: &str, zone: &str, env: &str| {
        let labels: Labels = [("kuma.io/zone", zone), ("env", env)].into_iter().collect();
        let plain = dataplane(mesh, name);
        Resource::new(plain.meta.key, labels, plain.spec)
    };
    let batch = Batch::new()
        .create(labelled("b", "1", "east", "prod"))
        .create(labelled("a", "2", "east", "test"))
        .create(labelled("a", "1", "west", "prod"))
        .create(labelled("a", "B", "east", "prod"))
        .create(mesh("a"));
    store.apply(batch).await.unwrap();
    let list = async |selection: Selection| {
        let found = store.list(&selection).await.unwrap();
        found.iter().map(|found| format!("{}/{}", found.meta.key.mesh, found.meta.key.name)).collect::<Vec<_>>()
    };
    let all = Selection::of(Kind::Dataplane);
    assert_eq!(list(all.clone()).await, ["a/1", "a/2", "a/B", "b/1"]);
    assert_eq!(list(all.clone().in_mesh("a")).await, ["a/1", "a/2", "a/B"]);
    let east = all.labelled("kuma.io/zone", "east");
    assert_eq!(list(east.clone()).await, ["a/2", "a/B", "b/1"]);
    assert_eq!(list(east.in_mesh("a").labelled("env", "prod")).await, ["a/B"]);
    assert!(list(Selection::of(Kind::Dataplane).labelled("env", "PROD")).await.is_empty());
    assert!(list(Selection::of(Kind::Dataplane).labelled("env' OR 1=1 --", "prod")).await.is_empty());
}

pub async fn what_was_written_is_there_after_a_restart(fixture: &Fixture) {
    let store = fixture.open().await;
    store.apply(Batch::new().create(mesh("m")).create(dataplane("m", "dp"))).await.unwrap();
    store.apply(Batch::new().delete(dataplane("m", "dp").meta.key)).await.unwrap();
    let before = store.configuration().borrow().clone();
    store.close().await;
    drop(store);
    let store = fixture.open().await;
    let after = store.configuration().borrow().clone();
    assert_eq!((after.revision(), after.len()), (before.revision(), 1));
    let key = mesh("m").meta.key;
    assert_eq!(after.get(&key), before.get(&key));
}

pub async fn what_no_database_holds_is_refused(fixture: &Fixture) {
    let store = fixture.open().await;
    for name in ["", "nul\0", &"n".repeat(10_000)] {
        let refused = store.apply(Batch::new().put(mesh(name))).await.unwrap_err();
        assert!(matches!(refused, ApplyError::Invalid { .. }), "{refused}");
    }
    for name in ["quote'\"`; DROP TABLE resources; --", "ünï/cödé\n", &"n".repeat(512)] {
        store.apply(Batch::new().create(mesh(name))).await.unwrap();
        assert!(store.get(&mesh(name).meta.key).await.unwrap().is_some());
        assert!(store.configuration().borrow().get(&mesh(name).meta.key).is_some());
    }
}
