use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::MeshInsight;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::mesh_insight::{
    DataplaneStat, DataplanesByType, DpVersions, Mtls, PolicyStat, ResourceStat, ServiceStat,
};

use super::{Proxy, Status};
use crate::kind::{Access, Kind};
use crate::labels::SERVICE_TAG;

/// Version of a proxy that never said one.
const UNKNOWN: &str = "unknown";

/// What a mesh's insight is made of.
#[derive(Debug)]
pub struct MeshFacts<'a> {
    /// Its data plane proxies.
    pub proxies: &'a [Proxy],
    /// How many resources it has of each mesh-scoped kind.
    pub counts: &'a BTreeMap<Kind, usize>,
}

/// Counts over the proxies and the resources of one mesh.
pub fn mesh_insight(facts: &MeshFacts<'_>) -> MeshInsight {
    let mut all = DataplaneStat::default();
    let (mut standard, mut builtin, mut delegated) =
        (DataplaneStat::default(), DataplaneStat::default(), DataplaneStat::default());
    let mut versions = DpVersions::default();
    let mut mtls = Mtls::default();
    for proxy in facts.proxies {
        let status = proxy.status();
        let add = |stat: &mut DataplaneStat| add(stat, status);
        add(&mut all);
        add(match proxy.gateway() {
            None => &mut standard,
            Some(GatewayType::Builtin) => &mut builtin,
            Some(GatewayType::Delegated) => &mut delegated,
        });
        let version = proxy.last_subscription().and_then(|subscription| subscription.version.as_ref());
        let kuma_dp = version.and_then(|version| version.kuma_dp.as_ref()).map(|kuma_dp| kuma_dp.version.as_str());
        let envoy = version.and_then(|version| version.envoy.as_ref()).map(|envoy| envoy.version.as_str());
        add(versions.kuma_dp.entry(or_unknown(kuma_dp)).or_default());
        add(versions.envoy.entry(or_unknown(envoy)).or_default());
        if let Some(reported) = proxy.insight.as_deref().and_then(|insight| insight.m_tls.as_ref()) {
            add(mtls.issued_backends.entry(reported.issued_backend.clone()).or_default());
            for backend in &reported.supported_backends {
                add(mtls.supported_backends.entry(backend.clone()).or_default());
            }
        }
    }
    let gateway = sum(builtin, delegated);
    MeshInsight {
        dataplanes: Some(all),
        policies: policies(facts.counts),
        dp_versions: Some(versions),
        m_tls: Some(mtls),
        services: Some(services(facts)),
        dataplanes_by_type: Some(DataplanesByType {
            standard: Some(standard),
            gateway: Some(gateway),
            gateway_builtin: Some(builtin),
            gateway_delegated: Some(delegated),
        }),
        resources: resources(facts.counts),
    }
}

fn add(stat: &mut DataplaneStat, status: Status) {
    stat.total += 1;
    match status {
        Status::Online => stat.online += 1,
        Status::Offline => stat.offline += 1,
        Status::PartiallyDegraded => stat.partially_degraded += 1,
    }
}

fn sum(a: DataplaneStat, b: DataplaneStat) -> DataplaneStat {
    DataplaneStat {
        total: a.total + b.total,
        online: a.online + b.online,
        offline: a.offline + b.offline,
        partially_degraded: a.partially_degraded + b.partially_degraded,
    }
}

fn or_unknown(version: Option<&str>) -> String {
    version.filter(|version| !version.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

fn services(facts: &MeshFacts<'_>) -> ServiceStat {
    let inbound =
        |proxy| Proxy::inbounds(proxy).map(|inbound| inbound.tags.get(SERVICE_TAG).map_or("", String::as_str));
    let gateways = facts.proxies.iter().filter_map(Proxy::gateway_service).filter(|service| !service.is_empty());
    let internal: BTreeSet<&str> = facts.proxies.iter().flat_map(inbound).chain(gateways).collect();
    let external = facts.counts.get(&Kind::ExternalService).copied().unwrap_or_default();
    ServiceStat { total: count(internal.len() + external), internal: count(internal.len()), external: count(external) }
}

/// Kinds that the insight counts: all that a mesh has, but for what control planes write about it.
fn counted(counts: &BTreeMap<Kind, usize>) -> impl Iterator<Item = (Kind, u32)> {
    let countable = |kind: Kind| kind.info().access != Access::ControlPlanes;
    counts.iter().filter(move |(kind, n)| countable(**kind) && **n > 0).map(|(kind, n)| (*kind, count(*n)))
}

fn policies(counts: &BTreeMap<Kind, usize>) -> BTreeMap<String, PolicyStat> {
    let policies = counted(counts).filter(|(kind, _)| kind.info().policy.is_some());
    policies.map(|(kind, total)| (kind.name().to_owned(), PolicyStat { total })).collect()
}

fn resources(counts: &BTreeMap<Kind, usize>) -> BTreeMap<String, ResourceStat> {
    counted(counts).map(|(kind, total)| (kind.name().to_owned(), ResourceStat { total })).collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{connected, proxy};
    use super::*;

    fn insight() -> MeshInsight {
        let sidecar = json!({"networking": {"inbound": [{"port": 1, "tags": {"kuma.io/service": "a"}},
            {"port": 2, "tags": {"kuma.io/service": "b"}}]}});
        let gateway = json!({"networking": {"gateway": {"type": "BUILTIN", "tags": {"kuma.io/service": "edge"}}}});
        let proxies = [proxy(sidecar, connected()), proxy(gateway, None)];
        let counts = [
            (Kind::Dataplane, 2),
            (Kind::DataplaneInsight, 1),
            (Kind::MeshTimeout, 3),
            (Kind::Secret, 0),
            (Kind::ExternalService, 1),
        ]
        .into();
        mesh_insight(&MeshFacts { proxies: &proxies, counts: &counts })
    }

    #[test]
    fn proxies_are_counted_by_type_and_version() {
        let insight = insight();
        let by_type = insight.dataplanes_by_type.unwrap();
        assert_eq!(insight.dataplanes, Some(DataplaneStat { total: 2, online: 1, offline: 1, partially_degraded: 0 }));
        assert_eq!(by_type.gateway, by_type.gateway_builtin);
        assert_eq!(by_type.standard.unwrap().online, 1);
        let versions = insight.dp_versions.unwrap();
        assert_eq!(versions.envoy.keys().collect::<Vec<_>>(), ["1.36.4", "unknown"]);
    }

    #[test]
    fn resources_are_counted_and_insights_are_not() {
        let insight = insight();
        assert_eq!(insight.resources.keys().collect::<Vec<_>>(), ["Dataplane", "ExternalService", "MeshTimeout"]);
        assert_eq!(insight.policies.keys().collect::<Vec<_>>(), ["MeshTimeout"]);
        assert_eq!(insight.services, Some(ServiceStat { total: 4, internal: 3, external: 1 }));
    }
}
