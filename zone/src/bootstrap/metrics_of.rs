//! Where `kuma-dp` collects the metrics of a workload: the older settings of its mesh and its own.

use std::collections::BTreeMap;

use kds_proto::bootstrap::Aggregate;
use kds_proto::kuma::mesh::v1alpha1::{
    Dataplane, Mesh, MetricsBackend, PrometheusAggregateMetricsConfig, PrometheusMetricsBackendConfig,
};
use model::spec::proto_json::from_struct;

/// What the mesh says, unless the dataplane says something else under the same name.
pub(super) fn aggregated(dataplane: &Dataplane, mesh: &Mesh) -> Vec<Aggregate> {
    let Some(metrics) = mesh.metrics.as_ref().filter(|metrics| !metrics.enabled_backend.is_empty()) else {
        return Vec::new();
    };
    let backend = metrics.backends.iter().find(|backend| backend.name == metrics.enabled_backend);
    let places = |backend: Option<&MetricsBackend>| -> Vec<PrometheusAggregateMetricsConfig> {
        let backend = backend.filter(|backend| backend.r#type == "prometheus");
        let conf =
            backend.and_then(|backend| from_struct::<PrometheusMetricsBackendConfig>(backend.conf.as_ref()).ok());
        conf.map(|conf| conf.aggregate).unwrap_or_default()
    };
    let all = places(backend).into_iter().chain(places(dataplane.metrics.as_ref()));
    let by_name: BTreeMap<String, _> = all.map(|place| (place.name.clone(), place)).collect();
    let own = dataplane.networking.as_ref().map(|networking| networking.address.as_str()).unwrap_or_default();
    let wanted = by_name.into_values().filter(|place| place.enabled.is_none_or(|enabled| enabled));
    wanted
        .map(|PrometheusAggregateMetricsConfig { name, port, path, address, .. }| Aggregate {
            name,
            address: if address.is_empty() { own.to_owned() } else { address },
            port,
            path,
        })
        .collect()
}
