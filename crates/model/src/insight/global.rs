use std::collections::BTreeMap;

use kds_proto::kuma::mesh::v1alpha1::mesh_insight::DataplaneStat;
use kds_proto::kuma::mesh::v1alpha1::service_insight::service::{Status, Type};
use kds_proto::kuma::mesh::v1alpha1::{MeshInsight, ServiceInsight};
use serde::Serialize;

/// Roll-up of everything, for the first page of a GUI; every counter is always there (api-and-kumactl 2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GlobalInsight {
    /// Proxies by type.
    pub dataplanes: Dataplanes,
    /// Meshes.
    pub meshes: Total,
    /// Policies of all meshes.
    pub policies: Total,
    /// Resources of all meshes by kind.
    pub resources: BTreeMap<String, Total>,
    /// Services by type.
    pub services: Services,
    /// Control planes and zone proxies.
    pub zones: Zones,
}

/// A count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// How many there are.
    pub total: u32,
}

/// How many there are and how they fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fare {
    /// Not connected.
    pub offline: u32,
    /// Connected and ready.
    pub online: u32,
    /// Connected and partly ready.
    pub partially_degraded: u32,
    /// How many there are.
    pub total: u32,
}

/// Proxies by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dataplanes {
    /// Gateways that the mesh runs.
    pub gateway_builtin: Fare,
    /// Gateways of somebody else's.
    pub gateway_delegated: Fare,
    /// Sidecars.
    pub standard: Fare,
}

/// Services by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    /// Outside of the mesh.
    pub external: Total,
    /// Gateways that the mesh runs.
    pub gateway_builtin: Fare,
    /// Gateways of somebody else's.
    pub gateway_delegated: Fare,
    /// In the mesh.
    pub internal: Fare,
}

/// How many there are and how many of them are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connected {
    /// With an open subscription.
    pub online: u32,
    /// All that ever connected.
    pub total: u32,
}

/// Control planes and zone proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zones {
    /// Zone control planes.
    pub control_planes: Connected,
    /// Ways out of a zone.
    pub zone_egresses: Connected,
    /// Ways into a zone.
    pub zone_ingresses: Connected,
}

/// Whether each control plane and zone proxy that ever reported is connected, counted from insights and not from the
/// resources themselves.
#[derive(Debug)]
pub struct ZoneParts<C, E, I> {
    /// Of each ZoneInsight.
    pub control_planes: C,
    /// Of each ZoneEgressInsight.
    pub zone_egresses: E,
    /// Of each ZoneIngressInsight.
    pub zone_ingresses: I,
}

/// The roll-up from the insights of the meshes.
pub fn global_insight<'a>(
    meshes: impl IntoIterator<Item = &'a MeshInsight>,
    services: impl IntoIterator<Item = &'a ServiceInsight>,
    zones: ZoneParts<impl Iterator<Item = bool>, impl Iterator<Item = bool>, impl Iterator<Item = bool>>,
) -> GlobalInsight {
    let mut sum = GlobalInsight {
        zones: Zones {
            control_planes: connected(zones.control_planes),
            zone_egresses: connected(zones.zone_egresses),
            zone_ingresses: connected(zones.zone_ingresses),
        },
        ..GlobalInsight::default()
    };
    for mesh in meshes {
        add_mesh(&mut sum, mesh);
    }
    for service in services.into_iter().flat_map(|insight| insight.services.values()) {
        let (kind, status) = (service.service_type(), service.status());
        match kind {
            Type::External => sum.services.external.total += 1,
            Type::GatewayBuiltin => sum.services.gateway_builtin.add(status),
            Type::GatewayDelegated => sum.services.gateway_delegated.add(status),
            Type::Internal => sum.services.internal.add(status),
        }
    }
    sum
}

fn add_mesh(sum: &mut GlobalInsight, mesh: &MeshInsight) {
    sum.meshes.total += 1;
    sum.policies.total += mesh.policies.values().map(|policy| policy.total).sum::<u32>();
    for (kind, resources) in &mesh.resources {
        sum.resources.entry(kind.clone()).or_default().total += resources.total;
    }
    let by_type = mesh.dataplanes_by_type.unwrap_or_default();
    sum.dataplanes.gateway_builtin.add_all(by_type.gateway_builtin);
    sum.dataplanes.gateway_delegated.add_all(by_type.gateway_delegated);
    sum.dataplanes.standard.add_all(by_type.standard);
}

impl Fare {
    fn add(&mut self, status: Status) {
        self.total += 1;
        match status {
            Status::Online => self.online += 1,
            Status::Offline => self.offline += 1,
            Status::PartiallyDegraded => self.partially_degraded += 1,
            Status::None | Status::NotAvailable => {}
        }
    }

    fn add_all(&mut self, stat: Option<DataplaneStat>) {
        let stat = stat.unwrap_or_default();
        self.offline += stat.offline;
        self.online += stat.online;
        self.partially_degraded += stat.partially_degraded;
        self.total += stat.total;
    }
}

fn connected(online: impl Iterator<Item = bool>) -> Connected {
    online.fold(Connected::default(), |sum, online| Connected {
        online: sum.online + u32::from(online),
        total: sum.total + 1,
    })
}

#[cfg(test)]
mod tests {
    use kds_proto::json::{UnknownFields::Refused, from_value};
    use serde_json::json;

    use super::*;

    #[test]
    fn insights_of_meshes_add_up() {
        let mesh = |online: u32| -> MeshInsight {
            let stat = json!({"online": online, "total": online});
            from_value(
                json!({"policies": {"MeshTimeout": {"total": 2}}, "resources": {"MeshTimeout": {"total": 2}},
                "dataplanesByType": {"standard": stat}}),
                Refused,
            )
            .unwrap()
        };
        let services: ServiceInsight = from_value(
            json!({"services": {
            "a": {"status": "online"}, "b": {"status": "offline"}, "c": {"serviceType": "external"}}}),
            Refused,
        )
        .unwrap();
        let zones = ZoneParts {
            control_planes: [true, false].into_iter(),
            zone_egresses: std::iter::empty(),
            zone_ingresses: [true].into_iter(),
        };
        let sum = global_insight([&mesh(1), &mesh(2)], [&services], zones);
        assert_eq!((sum.meshes.total, sum.policies.total, sum.resources["MeshTimeout"].total), (2, 4, 4));
        assert_eq!(sum.dataplanes.standard, Fare { online: 3, total: 3, ..Fare::default() });
        assert_eq!(sum.services.internal, Fare { online: 1, offline: 1, total: 2, ..Fare::default() });
        assert_eq!(sum.services.external.total, 1);
        assert_eq!(sum.zones.control_planes, Connected { online: 1, total: 2 });
        let text = serde_json::to_string(&sum.zones).unwrap();
        assert!(text.starts_with(r#"{"controlPlanes":{"online":1,"total":2},"zoneEgresses""#), "{text}");
    }
}
