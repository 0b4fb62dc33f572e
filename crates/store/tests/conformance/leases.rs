//! Leaders.

use std::time::Duration;

use store::{ApplyError, Batch};

use crate::child::{Other, Role};
use crate::fixture::{Fixture, content, eventually, mesh};

const LONG: Duration = Duration::from_secs(60);

pub async fn one_holder_at_a_time_and_the_token_grows(fixture: &Fixture) {
    let store = fixture.open().await;
    let first = store.acquire("leader", "a", Duration::from_millis(300)).await.unwrap().unwrap();
    assert_eq!(store.acquire("leader", "b", LONG).await.unwrap(), None);
    assert!(store.acquire("other", "b", LONG).await.unwrap().is_some());
    assert_eq!(store.acquire("leader", "a", Duration::from_millis(300)).await.unwrap().as_ref(), Some(&first));
    let mut second = None;
    eventually(async || {
        second = store.acquire("leader", "b", LONG).await.unwrap();
        second.is_some()
    })
    .await;
    let second = second.unwrap();
    assert!(second.fence.token > first.fence.token);

    let write = |fence| store.apply(Batch::new().put(mesh("m")).fenced(fence));
    let refused = write(first.fence.clone()).await.unwrap_err();
    assert!(matches!(refused, ApplyError::Deposed { .. }), "{refused}");
    write(second.fence.clone()).await.unwrap();
    store.release(&first).await.unwrap();
    assert_eq!(store.acquire("leader", "a", LONG).await.unwrap(), None, "what is lost cannot be given back");
    store.release(&second).await.unwrap();
    assert!(store.acquire("leader", "a", LONG).await.unwrap().unwrap().fence.token > second.fence.token);
}

pub async fn a_paused_leader_cannot_write_late(fixture: &Fixture) {
    let store = fixture.open().await;
    let mut paused = Other::start(fixture, Role::Leader);
    let token: u64 = paused.ack().unwrap().parse().unwrap();
    paused.tell("in time");
    assert_eq!(paused.ack().unwrap(), "written");
    paused.pause();
    let mut taken = None;
    eventually(async || {
        taken = store.acquire("leader", "successor", LONG).await.unwrap();
        taken.is_some()
    })
    .await;
    let taken = taken.unwrap();
    assert!(taken.fence.token > token);
    paused.resume();
    paused.tell("too late");
    assert_eq!(paused.ack().unwrap(), "refused");
    assert_eq!(content(&store.get(&mesh("led").meta.key).await.unwrap().unwrap()), "in time");
    paused.end();
}

pub async fn candidates_hand_over(fixture: &Fixture) {
    let store = fixture.open().await;
    let ttl = Duration::from_millis(500);
    let first = store.stand("leader", "a", ttl);
    let mut leads = first.leading();
    let lease = leads.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let second = store.stand("leader", "b", ttl);
    tokio::time::sleep(ttl * 2).await;
    assert_eq!(first.leading().borrow().as_ref(), Some(&lease), "it renews");
    assert_eq!(*second.leading().borrow(), None);
    drop(first);
    let mut leads = second.leading();
    let next = tokio::time::timeout(LONG, leads.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert!(next.fence.token > lease.fence.token);
}
