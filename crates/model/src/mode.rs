//! Which control plane this is, for the rules that depend on it: who may write what, which labels a resource gets.

use crate::kind::{Access, Kind};

/// The part that a control plane plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The hub.
    Global,
    /// A zone.
    Zone(Zone),
}

/// A zone's control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone's name.
    pub name: String,
    /// Whether it has a global to obey; one without writes everything, as a control plane of its own.
    pub federated: bool,
    /// Where its workloads run.
    pub environment: Environment,
}

/// Where workloads run: the value of the label `kuma.io/env`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Virtual machines and bare metal.
    Universal,
    /// Kubernetes.
    Kubernetes,
}

impl Environment {
    /// `universal` or `kubernetes`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Universal => "universal",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl Mode {
    /// A zone on virtual machines.
    pub fn universal_zone(name: &str, federated: bool) -> Self {
        Self::Zone(Zone { name: name.to_owned(), federated, environment: Environment::Universal })
    }

    /// The zone, if it is one.
    pub fn zone(&self) -> Option<&Zone> {
        match self {
            Self::Global => None,
            Self::Zone(zone) => Some(zone),
        }
    }

    /// Whether it is a zone with a global above it.
    pub fn is_federated_zone(&self) -> bool {
        self.zone().is_some_and(|zone| zone.federated)
    }

    /// Whether the public API takes writes of a kind here (api-and-kumactl 2.2, kds-wire 8.1).
    pub fn may_write(&self, kind: Kind) -> bool {
        let info = kind.info();
        let open = !matches!(info.access, Access::ControlPlanes | Access::Hidden);
        open && match self {
            Self::Global => info.sync.provided_by_global(),
            Self::Zone(zone) => !zone.federated || info.sync.provided_by_zone(),
        }
    }

    /// Why a write is refused here; the text depends on the mode alone and ends in a line break.
    pub fn write_refusal(&self) -> &'static str {
        match self {
            Self::Global => {
                "On global control plane you can not modify dataplane resources with 'kumactl apply' or via the HTTP API. \
                 You can still use 'kumactl' or the HTTP API to modify them on the zone control plane.\n"
            }
            Self::Zone(_) => {
                "On zone control plane you can only modify zone resources with 'kumactl apply' or via the HTTP API. You \
                 can still use 'kumactl' or the HTTP API to modify the rest of the resource on the global control plane.\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// API 2.2, KDS-59: the writable columns.
    #[test]
    fn each_side_writes_what_it_provides() {
        let federated = Mode::universal_zone("east", true);
        let alone = Mode::universal_zone("east", false);
        let rows = [
            (Kind::Mesh, true, false),
            (Kind::Zone, true, true),
            (Kind::Dataplane, false, true),
            (Kind::ZoneIngress, false, true),
            (Kind::MeshService, false, true),
            (Kind::MeshExternalService, true, true),
            (Kind::MeshMultiZoneService, true, false),
            (Kind::MeshTimeout, true, true),
            (Kind::TrafficRoute, true, false),
            (Kind::Secret, true, true),
            (Kind::Workload, false, true),
        ];
        for (kind, on_global, on_zone) in rows {
            assert_eq!((Mode::Global.may_write(kind), federated.may_write(kind)), (on_global, on_zone), "{kind}");
            assert!(alone.may_write(kind), "{kind}");
        }
        for insight in
            [Kind::ZoneInsight, Kind::ServiceInsight, Kind::MeshInsight, Kind::DataplaneInsight, Kind::Config]
        {
            assert!(![Mode::Global, federated.clone(), alone.clone()].iter().any(|mode| mode.may_write(insight)));
        }
    }
}
