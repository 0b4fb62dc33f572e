//! Processes that die, disks that fill up, servers that restart.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use model::{Kind, Payload, Resource};
use store::simulated::Faults;
use store::test_support::{Setup, Stop, TestPostgres};
use store::{ApplyError, Backend, Batch, Fault, Selection, Settings, Store};

use crate::child::{Other, PARTS, Role};
use crate::fixture::{Fixture, eventually, mesh};

/// Nothing acknowledged is lost, nothing is torn, and the revision counts exactly what is there.
pub async fn a_killed_writer_loses_nothing_acknowledged(fixture: &Fixture) {
    fixture.open().await.close().await;
    if let Backend::Simulated(mount) = &fixture.backend {
        // So that a kill can come in the middle of a batch.
        mount.set(Faults { latency: Duration::from_millis(2), ..Faults::default() });
    }
    let mut next = 0;
    for acks in [1, 17, 40] {
        let mut writer = Other::start(fixture, Role::Writer(next));
        let mut acknowledged = None;
        for _ in 0..acks {
            acknowledged = Some(writer.ack().unwrap().parse::<u32>().unwrap());
        }
        writer.kill();
        while let Some(ack) = writer.ack() {
            acknowledged = ack.parse().ok();
        }
        let acknowledged = acknowledged.unwrap();

        let store = fixture.open().await;
        let snapshot = store.configuration().borrow().clone();
        let parts =
            |n: u32| PARTS.iter().filter(|part| snapshot.get(&mesh(&format!("{n}-{part}")).meta.key).is_some()).count();
        for n in 0..=acknowledged {
            assert_eq!(parts(n), PARTS.len(), "batch {n} was acknowledged");
        }
        // The one in progress is there in full or not at all.
        let last = if parts(acknowledged + 1) == 0 { acknowledged } else { acknowledged + 1 };
        assert_eq!(snapshot.revision(), u64::from(last) + 1);
        assert_eq!(snapshot.len(), (last as usize + 1) * PARTS.len());
        next = last + 1;
        store.close().await;
    }
}

/// Who opens a file alone knows that the holder of a lease is dead. With others about nobody can tell, and waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_of_the_dead_is_free_at_once() {
    let fixture = Fixture::sqlite();
    let mut leader = Other::start(&fixture, Role::LongLeader);
    let token: u64 = leader.ack().unwrap().parse().unwrap();
    let ttl = Duration::from_secs(600);
    let second = fixture.open().await;
    assert_eq!(second.acquire("leader", "second", ttl).await.unwrap(), None, "its holder lives");
    leader.kill();
    let third = fixture.open().await;
    assert_eq!(third.acquire("leader", "third", ttl).await.unwrap(), None, "the second might hold it");
    drop(third);
    second.close().await;

    let fourth = fixture.open().await;
    let lease = fourth.acquire("leader", "fourth", ttl).await.unwrap().unwrap();
    assert!(lease.fence.token > token, "the dead one's writes are fenced off");
}

/// 64 KiB that no database compresses.
fn bulky(n: u32) -> Resource {
    let mut state = u64::from(n) + 1;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(64 * 1024)
    .collect();
    Resource { spec: Payload::from_bytes(bytes), ..mesh(&format!("bulky-{n}")) }
}

/// Writes until the database is full; then makes room and sees the same store recover.
async fn fill(store: &Store, make_room: impl AsyncFnOnce()) {
    let mut written = 0;
    let error = loop {
        match store.apply(Batch::new().create(bulky(written))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the database does not fill up");
    };
    assert!(matches!(&error, ApplyError::Storage(error) if error.fault() == Fault::Full), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    let here = store.configuration().borrow().clone();
    assert_eq!((here.revision(), here.len()), (u64::from(written), written as usize), "the refused one left no trace");
    assert_eq!(store.list(&Selection::of(Kind::Mesh)).await.unwrap().len(), written as usize);
    make_room().await;
    eventually(async || store.apply(Batch::new().put(bulky(written))).await.is_ok()).await;
    assert_eq!(store.configuration().borrow().len(), written as usize + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_at_its_size_limit_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::Sqlite { path: folder.path().join("global.db"), max_pages: Some(500) };
    let store = Store::open(Settings::new(backend)).await.unwrap();
    store.apply(Batch::new().create(mesh("first"))).await.unwrap();
    store.apply(Batch::new().delete(mesh("first").meta.key)).await.unwrap();
    let mut written = 0;
    let error = loop {
        match store.apply(Batch::new().create(bulky(written))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(written > 10);
    assert!(matches!(&error, ApplyError::Storage(error) if error.fault() == Fault::Full), "{error}");
    store.apply(Batch::new().delete(bulky(0).meta.key).delete(bulky(1).meta.key)).await.unwrap();
    store.apply(Batch::new().create(bulky(written))).await.unwrap();
    assert_eq!(store.configuration().borrow().len(), written as usize - 1);
}

/// A small file system, with a file in it that can be deleted to make room.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` when this process may not mount one.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m,mode=777");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output().ok()?;
        if !mounted.status.success() {
            eprintln!("not run: cannot mount a small file system: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        std::fs::write(folder.path().join("ballast"), vec![1; 4 << 20]).unwrap();
        Some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_survives_a_full_disk() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let store = Store::open(Settings::new(Backend::sqlite(disk.path().join("global.db")))).await.unwrap();
    fill(&store, async || disk.make_room()).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_survives_a_full_disk() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let server = TestPostgres::start(Setup { inside: Some(disk.path()), ..Setup::default() }).unwrap();
    let settings = Settings::new(Backend::Postgres(server.database().await.unwrap()));
    let store = Store::open(Settings { migrate_on_open: true, ..settings }).await.unwrap();
    fill(&store, async || disk.make_room()).await;
    store.close().await;
    drop(server);
}

/// Writers see errors while the server is down; nothing acknowledged is lost and the feed goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_may_restart_under_load() {
    let server = TestPostgres::start(Setup::default()).unwrap();
    let settings = Settings::new(Backend::Postgres(server.database().await.unwrap()));
    let settings = Settings { migrate_on_open: true, safety_interval: Duration::from_secs(3600), ..settings };
    let store = Store::open(settings.clone()).await.unwrap();
    let replica = Store::open(settings).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, stopped) = (store.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), 0);
                for n in 0.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let new = mesh(&format!("{writer}-{n}"));
                    match store.apply(Batch::new().create(new.clone())).await {
                        Ok(_) => acknowledged.push(new.meta.key),
                        Err(ApplyError::Storage(error)) => {
                            assert_eq!(error.fault(), Fault::Unavailable, "{error}");
                            refused += 1;
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for how in [Stop::Fast, Stop::Crash] {
        let reached = store.configuration().borrow().revision() + 40;
        store.configuration().wait_for(|snapshot| snapshot.revision() >= reached).await.unwrap();
        server.stop(how).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.start_again().unwrap();
    }
    let reached = store.configuration().borrow().revision() + 40;
    store.configuration().wait_for(|snapshot| snapshot.revision() >= reached).await.unwrap();
    stop.send(true).unwrap();
    let mut total_refused = 0;
    for writer in writers {
        let (acknowledged, refused) = writer.await.unwrap();
        total_refused += refused;
        for store in [&store, &replica] {
            let mut snapshots = store.configuration();
            let all = snapshots.wait_for(|snapshot| acknowledged.iter().all(|key| snapshot.get(key).is_some()));
            tokio::time::timeout(Duration::from_secs(20), all).await.expect("acknowledged, and lost").unwrap();
        }
    }
    assert!(total_refused > 0, "the restarts were not noticed");
    let listed = store.list(&Selection::of(Kind::Mesh)).await.unwrap().len();
    eventually(async || replica.configuration().borrow().len() == listed).await;
    assert_eq!(store.configuration().borrow().revision() as usize, listed, "one revision per batch, none without");
}
