//! Many resources, many writers.

use std::time::Instant;

use model::{Kind, Labels, Payload, Resource};
use store::{ApplyError, Batch, Selection, Write};

use crate::fixture::{Fixture, content, dataplane, mesh, with_content};

const MANY: usize = 100_000;
const BATCH: usize = 5_000;

pub async fn a_hundred_thousand_resources(fixture: &Fixture) {
    let started = Instant::now();
    let store = fixture.open().await;
    store.apply(Batch::new().create(mesh("m"))).await.unwrap();
    for first in (0..MANY).step_by(BATCH) {
        let batch: Batch = (first..first + BATCH)
            .map(|n| {
                let plain = dataplane("m", &format!("dp-{n:06}"));
                let labels: Labels = [("kuma.io/zone", if n % 2 == 0 { "east" } else { "west" })].into_iter().collect();
                Write::Create {
                    resource: Resource::new(plain.meta.key, labels, Payload::from_bytes(vec![7; 200])),
                    owner: None,
                }
            })
            .collect();
        store.apply(batch).await.unwrap();
    }
    let snapshot = store.configuration().borrow().clone();
    assert_eq!((snapshot.len(), snapshot.revision()), (MANY + 1, (MANY / BATCH) as u64 + 1));
    let east = store.list(&Selection::of(Kind::Dataplane).in_mesh("m").labelled("kuma.io/zone", "east")).await.unwrap();
    assert_eq!(east.len(), MANY / 2);
    assert!(east.is_sorted_by_key(|resource| resource.meta.key.clone()));
    drop(snapshot);
    store.close().await;
    let store = fixture.open().await;
    assert_eq!(store.configuration().borrow().len(), MANY + 1);
    let gone = store.apply(Batch::new().delete(mesh("m").meta.key)).await.unwrap();
    assert_eq!(gone.removed.len(), MANY + 1);
    assert!(store.configuration().borrow().is_empty());
    eprintln!("{MANY} resources took {:?}", started.elapsed());
}

/// Of all that write a version only one wins; with retries every increment counts exactly once.
pub async fn a_storm_of_updates_counts_each_exactly_once(fixture: &Fixture) {
    const WRITERS: usize = 8;
    const INCREMENTS: usize = 15;
    let stores = [fixture.open().await, fixture.open().await];
    let new = with_content(&mesh("counter"), "0");
    stores[0].apply(Batch::new().create(new.clone())).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let (store, key) = (stores[writer % stores.len()].clone(), new.meta.key.clone());
        tokio::spawn(async move {
            let mut conflicts = 0;
            for _ in 0..INCREMENTS {
                loop {
                    let current = store.get(&key).await.unwrap().unwrap();
                    let next: usize = content(&current).parse::<usize>().unwrap() + 1;
                    // A database in memory would else let everybody finish before the next one begins.
                    tokio::task::yield_now().await;
                    match store.apply(Batch::new().update(with_content(&current, &next.to_string()))).await {
                        Ok(_) => break,
                        Err(ApplyError::Conflict { .. }) => conflicts += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            conflicts
        })
    });
    let conflicts: usize = futures::future::try_join_all(writers).await.unwrap().into_iter().sum();
    let last = stores[0].get(&new.meta.key).await.unwrap().unwrap();
    assert_eq!(content(&last), (WRITERS * INCREMENTS).to_string());
    assert_eq!(last.meta.version, (WRITERS * INCREMENTS) as u64 + 1);
    assert!(conflicts > 0, "nobody got in anybody's way");
}
