//! Snapshots follow commits.

use std::time::Duration;

use model::{Key, Kind};
use store::{Batch, Settings, Store};

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

/// Every snapshot that an onlooker gets is complete: as many resources as batches, whoever commits when.
pub async fn nothing_is_missed_with_many_writers(fixture: &Fixture) {
    const BATCHES: usize = 30;
    let stores = [fixture.open().await, fixture.open().await];
    let onlooker =
        Store::open(Settings { safety_interval: Duration::from_millis(50), ..fixture.settings() }).await.unwrap();
    let writers = (0..8).map(|writer| {
        let store = stores[writer % stores.len()].clone();
        tokio::spawn(async move {
            for n in 0..BATCHES {
                store.apply(Batch::new().create(mesh(&format!("{writer}-{n}")))).await.unwrap();
            }
        })
    });
    let all = tokio::spawn(futures::future::try_join_all(writers));
    let mut snapshots = onlooker.configuration();
    let mut last = 0;
    while last < 8 * BATCHES as u64 {
        tokio::time::timeout(Duration::from_secs(30), snapshots.changed()).await.expect("the feed stopped").unwrap();
        let snapshot = snapshots.borrow_and_update().clone();
        assert_eq!(snapshot.len() as u64, snapshot.revision(), "a committed change is missing");
        assert!(snapshot.revision() > last);
        last = snapshot.revision();
    }
    all.await.unwrap().unwrap();
}

/// Removals reach whoever was away, also when they are no longer remembered one by one.
pub async fn who_was_behind_the_horizon_reads_everything(fixture: &Fixture) {
    let store = fixture.open().await;
    store.apply(Batch::new().create(mesh("a")).create(mesh("b"))).await.unwrap();
    let behind =
        Store::open(Settings { safety_interval: Duration::from_millis(50), ..fixture.settings() }).await.unwrap();
    fixture.leap_without_mesh_a().await;
    let mut snapshots = behind.configuration();
    let seen = snapshots.wait_for(|snapshot| snapshot.revision() == 9);
    let seen = tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert!(seen.get(&mesh("b").meta.key).is_some());
}

/// With no timer to help: what was committed while the listener's connection was down is read when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_of_postgres_loses_no_change() {
    let fixture = Fixture::postgres().await;
    let store = fixture.open().await;
    let patient = Settings { safety_interval: Duration::from_secs(3600), ..fixture.settings() };
    let follower = Store::open(patient).await.unwrap();
    let mut snapshots = follower.configuration();
    for round in 0..5 {
        fixture
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND query LIKE 'LISTEN%'",
            )
            .await;
        let revision = store.apply(Batch::new().create(mesh(&format!("m-{round}")))).await.unwrap().revision;
        let seen = snapshots.wait_for(|snapshot| snapshot.revision() == revision);
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("a change was lost").unwrap();
    }
}
