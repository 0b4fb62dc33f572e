use std::collections::BTreeMap;

use kds_proto::kuma::mesh::v1alpha1::MeshInsight;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::mesh_insight::{
    DataplaneStat, DataplanesByType, DpVersions, Mtls, PolicyStat, ResourceStat, ServiceStat,
};

use super::MeshTally;
use super::tally::Fare;
use crate::kind::{Access, Kind};

impl MeshTally {
    /// Counts over the proxies and the resources of the mesh (api-and-kumactl 3.25).
    pub fn mesh_insight(&self) -> MeshInsight {
        let of = |gateway| self.by_gateway.get(&gateway).copied().unwrap_or_default();
        let (standard, builtin, delegated) =
            (of(None), of(Some(GatewayType::Builtin)), of(Some(GatewayType::Delegated)));
        MeshInsight {
            dataplanes: Some(stat(standard + builtin + delegated)),
            policies: self.policies(),
            dp_versions: Some(DpVersions { kuma_dp: stats(&self.kuma_dp), envoy: stats(&self.envoy) }),
            m_tls: Some(Mtls { issued_backends: stats(&self.issued), supported_backends: stats(&self.supported) }),
            services: Some(self.service_stat()),
            dataplanes_by_type: Some(DataplanesByType {
                standard: Some(stat(standard)),
                gateway: Some(stat(builtin + delegated)),
                gateway_builtin: Some(stat(builtin)),
                gateway_delegated: Some(stat(delegated)),
            }),
            resources: self.counted().map(|(kind, total)| (kind.name().to_owned(), ResourceStat { total })).collect(),
        }
    }

    fn policies(&self) -> BTreeMap<String, PolicyStat> {
        let policies = self.counted().filter(|(kind, _)| kind.info().policy.is_some());
        policies.map(|(kind, total)| (kind.name().to_owned(), PolicyStat { total })).collect()
    }

    /// Kinds that are counted: all that a mesh has, but for what control planes write about it.
    fn counted(&self) -> impl Iterator<Item = (Kind, u32)> {
        let countable = |kind: Kind| kind.info().access != Access::ControlPlanes;
        self.resources.iter().filter(move |(kind, _)| countable(**kind)).map(|(kind, total)| (*kind, *total))
    }

    /// Services of proxies, and external services: a resource each, whatever their names.
    fn service_stat(&self) -> ServiceStat {
        let in_mesh =
            self.services.values().filter(|service| service.inbounds.total() > 0 || !service.gateways.is_empty());
        let internal = u32::try_from(in_mesh.count()).unwrap_or(u32::MAX);
        let external = self.resources.get(&Kind::ExternalService).copied().unwrap_or_default();
        ServiceStat { total: internal + external, internal, external }
    }
}

fn stats(fares: &BTreeMap<String, Fare>) -> BTreeMap<String, DataplaneStat> {
    fares.iter().map(|(name, fare)| (name.clone(), stat(*fare))).collect()
}

fn stat(fare: Fare) -> DataplaneStat {
    DataplaneStat { total: fare.total(), online: fare.online, offline: fare.offline, partially_degraded: fare.degraded }
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
        let mut tally = MeshTally::default();
        tally.add(&proxy(sidecar, connected()));
        tally.add(&proxy(gateway, None));
        for kind in [Kind::Dataplane, Kind::DataplaneInsight, Kind::MeshTimeout, Kind::ExternalService] {
            tally.add_resource(kind);
        }
        tally.mesh_insight()
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
