use std::collections::{BTreeMap, BTreeSet};

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;
use kds_proto::kuma::mesh::v1alpha1::service_insight::Service;
use kds_proto::kuma::mesh::v1alpha1::service_insight::service::{self, DataplaneStat, Type};
use kds_proto::kuma::mesh::v1alpha1::{ExternalService, ServiceInsight};

use super::{Proxy, Status};
use crate::labels::{SERVICE_TAG, ZONE};

/// What an external service adds to its mesh's insight.
#[derive(Clone, Copy, Debug)]
pub struct ExternalServiceFacts<'a>(pub &'a ExternalService);

/// Every service of a mesh: how many of its proxies are online, in which zones they are, who issued their certificates.
///
/// The address of an internal service is left out; the API adds it when it prints one.
pub fn service_insight<'a>(
    proxies: impl IntoIterator<Item = &'a Proxy>,
    external: impl IntoIterator<Item = ExternalServiceFacts<'a>>,
) -> ServiceInsight {
    let mut services = Services::default();
    for proxy in proxies {
        services.add_proxy(proxy);
    }
    for ExternalServiceFacts(service) in external {
        services.add_external(service);
    }
    services.finish()
}

#[derive(Default)]
struct Services(BTreeMap<String, (Service, BTreeSet<String>)>);

impl Services {
    fn add_proxy(&mut self, proxy: &Proxy) {
        let status = proxy.status();
        let backend = proxy.insight.as_deref().and_then(|insight| insight.m_tls.as_ref());
        let backend = backend.map(|mtls| mtls.issued_backend.as_str()).filter(|backend| !backend.is_empty());
        let gateway = proxy.dataplane.networking.as_ref().and_then(|networking| networking.gateway.as_ref());
        if let Some(gateway) = gateway {
            let kind = match gateway.r#type() {
                GatewayType::Delegated => Type::GatewayDelegated,
                GatewayType::Builtin => Type::GatewayBuiltin,
            };
            self.count(&gateway.tags, kind, status, backend);
        }
        for inbound in proxy.inbounds() {
            self.count(&inbound.tags, Type::Internal, status, backend);
        }
    }

    fn count(&mut self, tags: &BTreeMap<String, String>, kind: Type, status: Status, backend: Option<&str>) {
        let service = self.service(tags, kind);
        let seen = service.dataplanes.get_or_insert_default();
        match status {
            Status::Online => seen.online += 1,
            Status::Offline | Status::PartiallyDegraded => seen.offline += 1,
        }
        if let Some(backend) = backend {
            *service.issued_backends.entry(backend.to_owned()).or_default() += 1;
        }
    }

    fn add_external(&mut self, external: &ExternalService) {
        let address = external.networking.as_ref().map(|networking| networking.address.clone()).unwrap_or_default();
        let service = self.service(&external.tags, Type::External);
        if service.service_type() == Type::External && service.address_port.is_empty() {
            service.address_port = address;
        }
    }

    /// The service of a tag set; the first that named it decides its type.
    fn service(&mut self, tags: &BTreeMap<String, String>, kind: Type) -> &mut Service {
        let name = tags.get(SERVICE_TAG).cloned().unwrap_or_default();
        let first = || {
            let dataplanes = Some(DataplaneStat::default());
            (Service { service_type: kind.into(), dataplanes, ..Service::default() }, BTreeSet::new())
        };
        let (service, zones) = self.0.entry(name).or_insert_with(first);
        zones.extend(tags.get(ZONE).filter(|zone| !zone.is_empty()).cloned());
        service
    }

    fn finish(self) -> ServiceInsight {
        let services = self.0.into_iter().map(|(name, (mut service, zones))| {
            service.status = status_of(&service).into();
            service.zones = zones.into_iter().collect();
            (name, service)
        });
        ServiceInsight { services: services.collect() }
    }
}

fn status_of(service: &Service) -> service::Status {
    let DataplaneStat { online, offline, .. } = service.dataplanes.unwrap_or_default();
    match (service.service_type(), online, offline) {
        (Type::External, _, _) => service::Status::NotAvailable,
        (_, 0, _) => service::Status::Offline,
        (_, _, 0) => service::Status::Online,
        _ => service::Status::PartiallyDegraded,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{connected, proxy};
    use super::*;

    #[test]
    fn proxies_of_a_service_are_counted_over_zones() {
        let inbound = |zone: &str| {
            json!({"networking": {"inbound": [
            {"port": 80, "tags": {"kuma.io/service": "backend", "kuma.io/zone": zone}}]}})
        };
        let proxies = [proxy(inbound("west"), connected()), proxy(inbound("east"), None)];
        let insight = service_insight(&proxies, []);
        let backend = &insight.services["backend"];
        assert_eq!(backend.status(), service::Status::PartiallyDegraded);
        assert_eq!(backend.zones, ["east", "west"]);
        assert_eq!(backend.dataplanes, Some(DataplaneStat { total: 0, online: 1, offline: 1 }));
    }

    #[test]
    fn an_ignored_inbound_counts_nowhere() {
        let ignored =
            json!({"networking": {"inbound": [{"port": 80, "state": "Ignored", "tags": {"kuma.io/service": "a"}}]}});
        assert!(service_insight(&[proxy(ignored, connected())], []).services.is_empty());
    }

    #[test]
    fn an_external_service_has_its_address_and_no_status() {
        let json = json!({"tags": {"kuma.io/service": "httpbin"}, "networking": {"address": "httpbin.example:443"}});
        let external: ExternalService =
            kds_proto::json::from_value(json, kds_proto::json::UnknownFields::Refused).unwrap();
        let insight = service_insight(&[], [ExternalServiceFacts(&external)]);
        let httpbin = &insight.services["httpbin"];
        assert_eq!(
            (httpbin.status(), httpbin.address_port.as_str()),
            (service::Status::NotAvailable, "httpbin.example:443")
        );
    }
}
