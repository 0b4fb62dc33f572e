//! What goes when its owner goes.

use model::{Key, Kind};
use store::{ApplyError, Batch, Write};

use crate::fixture::{Fixture, dataplane, mesh, resource, zone};

pub async fn a_mesh_takes_everything_in_it_along(fixture: &Fixture) {
    let store = fixture.open().await;
    let insight = resource(Key::new(Kind::DataplaneInsight, "m", "dp"), "insight");
    let of_mesh = resource(Key::global(Kind::MeshInsight, "m"), "insight");
    let batch = Batch::new()
        .create(mesh("m"))
        .create(mesh("other"))
        .create(dataplane("m", "dp"))
        .create(dataplane("other", "dp"))
        .create(insight.clone())
        .create(of_mesh.clone());
    store.apply(batch).await.unwrap();

    let applied = store.apply(Batch::new().delete(mesh("m").meta.key)).await.unwrap();
    assert_eq!(applied.revision, 2);
    let mut expected = vec![mesh("m").meta.key, dataplane("m", "dp").meta.key, insight.meta.key, of_mesh.meta.key];
    expected.sort();
    assert_eq!(applied.removed, expected);
    let left = store.configuration().borrow().clone();
    assert_eq!((left.revision(), left.len()), (2, 2), "the other mesh and its dataplane");
    assert!(store.insights().borrow().is_empty());
    for key in expected {
        assert_eq!(store.get(&key).await.unwrap(), None);
    }
}

pub async fn a_zone_takes_what_came_from_it_along(fixture: &Fixture) {
    let store = fixture.open().await;
    let (east, west) = (zone("east").meta.key, zone("west").meta.key);
    store.apply(Batch::new().create(zone("east")).create(zone("west"))).await.unwrap();
    let synced = |zone: &Key| {
        let of = |kind| resource(Key::new(kind, "m", &format!("of-{}", zone.name)), "synced");
        [of(Kind::Dataplane), of(Kind::DataplaneInsight), of(Kind::MeshService)]
            .map(|resource| Write::Put { resource, owner: Some(zone.clone()) })
    };
    let insight = resource(Key::global(Kind::ZoneInsight, "east"), "insight");
    store.apply(synced(&east).into_iter().chain(synced(&west)).collect()).await.unwrap();
    store.apply(Batch::new().put(insight)).await.unwrap();
    // A later write without an owner keeps it.
    store.apply(Batch::new().put(resource(Key::new(Kind::MeshService, "m", "of-east"), "changed"))).await.unwrap();

    let applied = store.apply(Batch::new().delete(east.clone())).await.unwrap();
    assert_eq!(applied.removed.len(), 5, "{:?}", applied.removed);
    assert_eq!(store.configuration().borrow().len(), 3);
    assert_eq!(store.insights().borrow().len(), 1);
    // Everything may come again, and goes again.
    store.apply(Batch::new().create(zone("east"))).await.unwrap();
    store.apply(synced(&east).into_iter().collect()).await.unwrap();
    assert_eq!(store.apply(Batch::new().remove(east)).await.unwrap().removed.len(), 4);
}

pub async fn an_owner_must_exist(fixture: &Fixture) {
    let store = fixture.open().await;
    let owned = Write::Create { resource: dataplane("m", "dp"), owner: Some(zone("east").meta.key) };
    let refused = store.apply(Batch::new().with(owned.clone())).await.unwrap_err();
    let text = r#"Zone "east", which is to own Dataplane "dp" in mesh "m", does not exist"#;
    assert_eq!(refused.to_string(), text);
    store.apply(Batch::new().create(zone("east")).with(owned)).await.unwrap();
}

pub async fn what_a_batch_requires_must_exist(fixture: &Fixture) {
    let store = fixture.open().await;
    let batch = || Batch::new().require(mesh("m").meta.key).create(dataplane("m", "dp"));
    let refused = store.apply(batch()).await.unwrap_err();
    assert!(matches!(&refused, ApplyError::RequirementMissing(key) if *key == mesh("m").meta.key), "{refused}");
    store.apply(Batch::new().create(mesh("m"))).await.unwrap();
    store.apply(batch()).await.unwrap();
}
