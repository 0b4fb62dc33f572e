//! What a snapshot of 100,000 Dataplanes costs: memory, the next revision, the difference of two.
//!
//! Memory is what the process gains (`VmRSS`), so it holds what the allocator wastes. Goals: a small resource at most
//! 2,048 bytes, one change at most 100 µs.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use kds_proto::kuma::mesh::v1alpha1::dataplane::Networking;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::Inbound;
use model::{Change, Key, Kind, Labels, Payload, Resource, Snapshot};

const DATAPLANES: usize = 100_000;
const SERVICES: usize = 1_000;
const CHANGES: usize = 20_000;

fn main() -> Result<()> {
    let before = resident_bytes()?;
    let dataplanes: Vec<Arc<Resource>> = (0..DATAPLANES).map(|at| Arc::new(dataplane(at, 0))).collect();
    let resources = resident_bytes()?;
    let (loading, snapshot) = timed(|| Snapshot::empty().apply(1, dataplanes.into_iter().map(Change::Put)));
    let indexed = resident_bytes()?;
    report("load", millis(loading), "ms");
    report("bytes_per_dataplane", per_dataplane(indexed - before), "bytes");
    report("of_which_resource", per_dataplane(resources - before), "bytes");
    report("of_which_indexes", per_dataplane(indexed.saturating_sub(resources)), "bytes");

    let (listing, listed) = timed(|| snapshot.list_in(Kind::Dataplane, "default").count());
    report("list", millis(listing), "ms");
    anyhow::ensure!(listed == DATAPLANES, "{listed} Dataplanes are listed");
    let (finding, found) =
        timed(|| (0..SERVICES).map(|at| snapshot.service("default", &service(at)).count()).sum::<usize>());
    report("service_lookup", micros(finding) / SERVICES as f64, "us");
    anyhow::ensure!(found == DATAPLANES, "{found} Dataplanes are found by service");

    let last = change_one_by_one(snapshot)?;
    decode_all(&last)?;
    Ok(())
}

/// Each change is made while a reader still holds the revision before, as in a control plane.
fn change_one_by_one(mut snapshot: Snapshot) -> Result<Snapshot> {
    let (mut applying, mut differing) = (Vec::with_capacity(CHANGES), Vec::with_capacity(CHANGES));
    for step in 1..=CHANGES {
        // A prime apart, so that consecutive changes are far from each other.
        let changed = Arc::new(dataplane(step * 7_919 % DATAPLANES, step));
        let key = changed.meta.key.clone();
        let (time, next) = timed(|| snapshot.apply(step as u64 + 1, [Change::Put(changed)]));
        applying.push(time);
        let (time, difference) = timed(|| next.diff(&snapshot));
        differing.push(time);
        anyhow::ensure!(difference == [key], "one change gives the difference {difference:?}");
        snapshot = next;
    }
    for (figure, times) in [("change", &mut applying), ("diff", &mut differing)] {
        times.sort();
        report(&format!("{figure}_p50"), micros(times[CHANGES / 2]), "us");
        report(&format!("{figure}_p99"), micros(times[CHANGES * 99 / 100]), "us");
    }
    const KEPT: usize = 1_000;
    let before = resident_bytes()?;
    let mut kept = vec![snapshot];
    for step in 0..KEPT {
        let put = Change::Put(Arc::new(dataplane(step * 7_919 % DATAPLANES, step)));
        kept.push(kept[step].apply((CHANGES + step) as u64, [put]));
    }
    report("kept_revision", (resident_bytes()?.saturating_sub(before)) as f64 / KEPT as f64, "bytes");
    kept.pop().context("a revision was kept")
}

/// What a zone pays that reads the content of each.
fn decode_all(snapshot: &Snapshot) -> Result<()> {
    let before = resident_bytes()?;
    let (decoding, inbounds) = timed(|| {
        let decoded = snapshot.list(Kind::Dataplane).filter_map(|resource| resource.spec.message::<Dataplane>().ok());
        decoded.filter_map(|dataplane| Some(dataplane.networking.as_ref()?.inbound.len())).sum::<usize>()
    });
    report("decode_all", millis(decoding), "ms");
    report("decoded_bytes_per_dataplane", per_dataplane(resident_bytes()?.saturating_sub(before)), "bytes");
    anyhow::ensure!(black_box(inbounds) == DATAPLANES, "{inbounds} inbounds");
    Ok(())
}

/// As a zone's Dataplane stands on the global: five labels, one inbound.
fn dataplane(at: usize, step: usize) -> Resource {
    let zone = format!("zone-{}", at % 10);
    let service = service(at % SERVICES);
    let tags =
        [("kuma.io/protocol", "http"), ("kuma.io/service", &service), ("kuma.io/zone", &zone), ("version", "v1")];
    let inbound = Inbound {
        port: 8080,
        service_port: 9090,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        ..Inbound::default()
    };
    let address = format!("10.{}.{}.{}", at >> 16, at >> 8 & 0xff, step % 256);
    let networking = Networking { address, inbound: vec![inbound], ..Networking::default() };
    let spec = Payload::from_message(&Dataplane { networking: Some(networking), ..Dataplane::default() });
    let shown = format!("{service}-{at}");
    let labels = [
        ("kuma.io/display-name", shown.as_str()),
        ("kuma.io/mesh", "default"),
        ("kuma.io/origin", "zone"),
        ("kuma.io/proxy-type", "sidecar"),
        ("kuma.io/zone", &zone),
    ];
    Resource::new(
        Key::new(Kind::Dataplane, "default", &format!("{shown}-d4czwd656dzfvxc2")),
        Labels::from_iter(labels),
        spec,
    )
}

fn service(at: usize) -> String {
    format!("backend-{at}")
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn resident_bytes() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/self/status")?;
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")?;
    Ok(kibibytes * 1024)
}

fn per_dataplane(bytes: usize) -> f64 {
    bytes as f64 / DATAPLANES as f64
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn report(figure: &str, value: f64, unit: &str) {
    println!("snapshot.{figure} {value:.1} {unit}");
}
