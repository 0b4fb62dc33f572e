//! Whether the documentation tells of every metric.

use std::path::Path;

use http::StatusCode;
use model::Kind;
use prometheus_client::registry::Registry;
use runtime::Clock;

use crate::{derived, identities, kds, xds};

const BEGINS: &str = "\n## What a zone tells of its ";

/// docs/metrics.md tells of every metric. `UPDATE_DOCS=1 cargo test -p kuma-zone documented` writes them anew.
#[test]
fn all_metrics_are_documented() {
    let text = section("global", of_global)
        + &section("proxies", of_proxies)
        + &section("certificates", of_certificates)
        + &section("services", of_services);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let mut others = std::fs::read_to_string(&file).unwrap_or_default();
    let documented = others.split_off(others.find(BEGINS).unwrap_or(others.len()));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, format!("{others}{text}")).unwrap();
    }
    assert_eq!(documented, text, "docs/metrics.md is not current: UPDATE_DOCS=1 cargo test -p kuma-zone documented");
}

fn section(whose: &str, register: fn(&mut Registry)) -> String {
    let registry = runtime::Metrics::default();
    registry.register(register);
    let table = registry.markdown().unwrap();
    format!("{BEGINS}{whose}\n\nA test of `kuma-zone` checks that this is current.\n\n{table}")
}

fn of_global(registry: &mut Registry) {
    let metrics = kds::Metrics::default();
    metrics.register(registry);
    // What has labels is told of once it was counted.
    metrics.updated("Mesh", 1, &Clock::system());
    metrics.told("Dataplane", "sent");
    metrics.weighed("Dataplane", 1, None);
}

fn of_proxies(registry: &mut Registry) {
    let metrics = xds::Metrics::default();
    metrics.register(registry);
    metrics.bootstrapped(StatusCode::OK);
}

fn of_services(registry: &mut Registry) {
    let metrics = derived::Metrics::default();
    metrics.register(registry);
    metrics.wrote(Kind::MeshService);
}

fn of_certificates(registry: &mut Registry) {
    let metrics = identities::Metrics::default();
    metrics.register(registry);
    metrics.failed("default");
    metrics.authority("default", "ca-1", Clock::system().now());
    let issued: Result<(), ()> = metrics.timed("default", &Clock::system(), || Ok(()));
    issued.unwrap();
}
