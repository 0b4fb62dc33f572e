//! Snapshots follow commits.

use model::{Key, Kind};
use store::Batch;

use crate::fixture::{Fixture, mesh, resource};

pub async fn insights_never_wake_the_configuration(fixture: &Fixture) {
    let store = fixture.open().await;
    let (mut configuration, mut insights) = (store.configuration(), store.insights());
    configuration.mark_unchanged();
    insights.mark_unchanged();
    let insight = resource(Key::new(Kind::DataplaneInsight, "m", "dp"), "online");
    let applied = store.apply(Batch::new().put(insight.clone())).await.unwrap();
    assert_eq!(applied.revision, 1);
    assert!(insights.has_changed().unwrap() && !configuration.has_changed().unwrap());
    assert_eq!(insights.borrow_and_update().get(&insight.meta.key), Some(&applied.resources[0]));

    store.apply(Batch::new().create(mesh("m"))).await.unwrap();
    assert!(configuration.has_changed().unwrap() && !insights.has_changed().unwrap());
    // Nor does the deletion of what has no insight wake the insights.
    store.apply(Batch::new().delete(Key::new(Kind::Mesh, "", "m"))).await.unwrap();
    assert!(insights.has_changed().unwrap(), "the insight was in the mesh");
    insights.mark_unchanged();
    store.apply(Batch::new().create(mesh("n"))).await.unwrap();
    store.apply(Batch::new().delete(mesh("n").meta.key)).await.unwrap();
    assert!(!insights.has_changed().unwrap());
}

pub async fn a_reader_sees_its_own_writes(fixture: &Fixture) {
    let store = fixture.open().await;
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                let applied = store.apply(Batch::new().create(mesh(&format!("m-{writer}-{n}")))).await.unwrap();
                let snapshot = store.configuration().borrow().clone();
                assert!(snapshot.revision() >= applied.revision);
                assert_eq!(snapshot.get(&applied.resources[0].meta.key), Some(&applied.resources[0]));
            }
        })
    });
    futures::future::try_join_all(writers).await.unwrap();
    let last = store.configuration().borrow().clone();
    assert_eq!((last.revision(), last.len()), (160, 160));
}
