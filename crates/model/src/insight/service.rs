use kds_proto::kuma::mesh::v1alpha1::ServiceInsight;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::service_insight::Service;
use kds_proto::kuma::mesh::v1alpha1::service_insight::service::{DataplaneStat, Status, Type};

use super::MeshTally;
use super::tally::{Fare, ServiceTally};

impl MeshTally {
    /// Every service of the mesh: how many of its proxies are online, in which zones they are, who issued their
    /// certificates.
    ///
    /// The address of an internal service is left out; the API adds it when it prints one.
    pub fn service_insight(&self) -> ServiceInsight {
        let services = self.services.iter().map(|(name, tally)| (name.clone(), service(tally)));
        ServiceInsight { services: services.collect() }
    }
}

fn service(tally: &ServiceTally) -> Service {
    let kind = type_of(tally);
    let fare = tally.gateways.values().fold(tally.inbounds, |sum, fare| sum + *fare);
    let external = (kind == Type::External).then(|| tally.external.keys().next().cloned());
    Service {
        status: status_of(kind, fare).into(),
        dataplanes: Some(DataplaneStat { total: 0, online: fare.online, offline: fare.offline + fare.degraded }),
        issued_backends: tally.issued.clone(),
        service_type: kind.into(),
        address_port: external.flatten().unwrap_or_default(),
        zones: tally.zones.keys().cloned().collect(),
    }
}

/// A name may be used for several things; what is in the mesh comes first.
fn type_of(tally: &ServiceTally) -> Type {
    if tally.inbounds.total() > 0 {
        return Type::Internal;
    }
    match tally.gateways.keys().next() {
        Some(GatewayType::Delegated) => Type::GatewayDelegated,
        Some(GatewayType::Builtin) => Type::GatewayBuiltin,
        None => Type::External,
    }
}

fn status_of(kind: Type, fare: Fare) -> Status {
    match (kind, fare.online) {
        (Type::External, _) => Status::NotAvailable,
        (_, 0) => Status::Offline,
        (_, all) if all == fare.total() => Status::Online,
        _ => Status::PartiallyDegraded,
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::json::{UnknownFields::Refused, from_value};
    use serde_json::json;

    use super::super::tests::{connected, proxy};
    use super::*;

    #[test]
    fn proxies_of_a_service_are_counted_over_zones() {
        let inbound = |zone: &str| {
            json!({"networking": {"inbound": [
            {"port": 80, "tags": {"kuma.io/service": "backend", "kuma.io/zone": zone}}]}})
        };
        let mut tally = MeshTally::default();
        tally.add(&proxy(inbound("west"), connected()));
        tally.add(&proxy(inbound("east"), None));
        let backend = &tally.service_insight().services["backend"];
        assert_eq!(backend.status(), Status::PartiallyDegraded);
        assert_eq!(backend.zones, ["east", "west"]);
        assert_eq!(backend.dataplanes, Some(DataplaneStat { total: 0, online: 1, offline: 1 }));
    }

    #[test]
    fn an_ignored_inbound_counts_nowhere() {
        let ignored =
            json!({"networking": {"inbound": [{"port": 80, "state": "Ignored", "tags": {"kuma.io/service": "a"}}]}});
        let mut tally = MeshTally::default();
        tally.add(&proxy(ignored, connected()));
        assert!(tally.service_insight().services.is_empty());
    }

    #[test]
    fn an_external_service_has_its_address_and_no_status() {
        let json = json!({"tags": {"kuma.io/service": "httpbin"}, "networking": {"address": "httpbin.example:443"}});
        let mut tally = MeshTally::default();
        tally.add_external(&from_value(json, Refused).unwrap());
        let httpbin = &tally.service_insight().services["httpbin"];
        assert_eq!((httpbin.status(), httpbin.address_port.as_str()), (Status::NotAvailable, "httpbin.example:443"));
    }
}
