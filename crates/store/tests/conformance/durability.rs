//! The disk has it before the caller hears of it.

use crate::child::{self, Role};
use crate::fixture::Fixture;

/// What the system calls of a process say: per acknowledgement, whether the log was synced since the one before.
///
/// A kill cannot tell synced from unsynced (the kernel keeps the pages), so the calls themselves are watched.
async fn synced(role: Role, acks: usize) -> Vec<bool> {
    let fixture = Fixture::sqlite();
    fixture.open().await.close().await;
    let trace = fixture.path("trace");
    let tracer = ["strace", "-f", "-qq", "-e", "trace=write,fsync,fdatasync", "-o", trace.to_str().unwrap()];
    let mut writer = child::start(&fixture.backend, role, &tracer);
    let heard = (0..acks).map_while(|_| writer.ack()).count();
    assert_eq!(heard, acks, "strace is needed here: install the Debian package strace");
    drop(writer.input);
    let traced = std::fs::read_to_string(&trace).unwrap();
    if role != Role::Insights {
        // The tracer passes the end of the traced on.
        let child = traced.split_whitespace().next().unwrap();
        std::process::Command::new("kill").args(["-s", "KILL", child]).status().unwrap();
    }
    writer.process.wait().unwrap();
    let mut since = false;
    let mut answers = Vec::new();
    for line in traced.lines() {
        if line.contains("sync(") || line.contains("sync resumed") {
            since = true;
        } else if line.contains("write(1, ") && line.contains("ack ") {
            answers.push(since);
            since = false;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_on_the_disk_before_the_answer() {
    let answers = synced(Role::Writer(0), 20).await;
    assert!(answers.len() >= 20 && answers.iter().all(|synced| *synced), "{answers:?}");
}

/// The counterpart: without `synchronous=FULL` the same watching finds answers without a sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn insights_do_not_wait_for_the_disk() {
    let answers = synced(Role::Insights, 20).await;
    assert_eq!(answers.iter().skip(1).filter(|synced| **synced).count(), 0, "{answers:?}");
}
