//! What the simulated disk adds to the contract: faults on request, under paused time.

use std::time::Duration;

use chrono::DateTime;
use model::{Key, Kind};
use runtime::ManualClock;
use store::simulated::{Disk, Faults, Mount, Signals};
use store::{ApplyError, Backend, Batch, Fault, Settings, Store};

use crate::fixture::{mesh, resource};

async fn open(mount: &Mount) -> Store {
    Store::open(Settings::new(Backend::Simulated(mount.clone()))).await.unwrap()
}

fn disk() -> Disk {
    Disk::new(ManualClock::at(DateTime::UNIX_EPOCH).clock())
}

/// How long a replica takes to see a change of another, with signals as given.
async fn seen_after(signals: Signals) -> Duration {
    let disk = disk();
    let (writer, follower) = (disk.mount(), disk.mount());
    follower.set(Faults { signals, ..Faults::default() });
    let (writer, follower) = (open(&writer).await, open(&follower).await);
    let mut snapshots = follower.configuration();
    let started = tokio::time::Instant::now();
    let revision = writer.apply(Batch::new().create(mesh("m"))).await.unwrap().revision;
    snapshots.wait_for(|snapshot| snapshot.revision() == revision).await.unwrap();
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_late_or_lost_signal_costs_time_and_nothing_else() {
    assert!(seen_after(Signals::Prompt).await < Duration::from_millis(10));
    let late = seen_after(Signals::Late(Duration::from_secs(2))).await;
    assert!(late >= Duration::from_secs(2) && late < Duration::from_secs(3), "{late:?}");
    let lost = seen_after(Signals::Lost).await;
    assert!(lost <= Duration::from_millis(5_010), "the safety interval is 5 s: {lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_loss_of_power_takes_the_last_insights_and_no_configuration() {
    let disk = disk();
    let store = open(&disk.mount()).await;
    let insight = |name: &str| resource(Key::new(Kind::DataplaneInsight, "m", name), "online");
    store.apply(Batch::new().put(insight("synced"))).await.unwrap();
    store.apply(Batch::new().create(mesh("m"))).await.unwrap();
    store.apply(Batch::new().put(insight("late"))).await.unwrap();
    drop(store);
    disk.lose_power();
    assert_eq!(disk.keys(), [insight("synced").meta.key, mesh("m").meta.key]);
}

#[tokio::test(start_paused = true)]
async fn a_store_out_of_reach_fails_and_recovers() {
    let mount = disk().mount();
    let store = open(&mount).await;
    mount.set(Faults { out_of_reach: true, ..Faults::default() });
    let refused = store.apply(Batch::new().create(mesh("m"))).await.unwrap_err();
    assert!(matches!(&refused, ApplyError::Storage(error) if error.fault() == Fault::Unavailable), "{refused}");
    mount.set(Faults::default());
    store.apply(Batch::new().create(mesh("m"))).await.unwrap();
}

/// Cut off between the commit and its answer, a writer does not know; the batch is there in full.
#[tokio::test(start_paused = true)]
async fn an_answer_can_be_lost_after_the_commit() {
    let disk = disk();
    let mount = disk.mount();
    let store = open(&mount).await;
    mount.set(Faults { latency: Duration::from_millis(10), ..Faults::default() });
    let cut = tokio::spawn({
        let (disk, mount) = (disk.clone(), mount.clone());
        async move {
            while disk.keys().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            mount.set(Faults { out_of_reach: true, ..Faults::default() });
        }
    });
    let refused = store.apply(Batch::new().create(mesh("m"))).await.unwrap_err();
    cut.await.unwrap();
    assert!(matches!(refused, ApplyError::Storage(_)), "{refused}");
    assert_eq!(disk.keys(), [mesh("m").meta.key]);
}
