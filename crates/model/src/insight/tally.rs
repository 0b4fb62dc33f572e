use std::collections::BTreeMap;

use kds_proto::kuma::mesh::v1alpha1::ExternalService;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::gateway::GatewayType;

use super::{Proxy, Status};
use crate::kind::Kind;
use crate::labels::{SERVICE_TAG, ZONE};

/// Version of a proxy that never said one.
const UNKNOWN: &str = "unknown";

/// Running counts over the proxies, services and resources of one mesh.
///
/// What was added can be removed again, so one change costs what it touches and never a walk over the mesh: remove what
/// the old snapshot says of a proxy, add what the new one says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshTally {
    pub(super) by_gateway: BTreeMap<Option<GatewayType>, Fare>,
    pub(super) kuma_dp: BTreeMap<String, Fare>,
    pub(super) envoy: BTreeMap<String, Fare>,
    pub(super) issued: BTreeMap<String, Fare>,
    pub(super) supported: BTreeMap<String, Fare>,
    pub(super) services: BTreeMap<String, ServiceTally>,
    pub(super) resources: BTreeMap<Kind, u32>,
}

/// How many there are of each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fare {
    pub online: u32,
    pub offline: u32,
    pub degraded: u32,
}

/// What makes up one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceTally {
    pub inbounds: Fare,
    pub gateways: BTreeMap<GatewayType, Fare>,
    pub issued: BTreeMap<String, u32>,
    pub zones: BTreeMap<String, u32>,
    pub external: BTreeMap<String, u32>,
}

/// Whether something comes or goes.
#[derive(Clone, Copy)]
enum Sign {
    Add,
    Remove,
}

impl MeshTally {
    /// Counts a proxy.
    pub fn add(&mut self, proxy: &Proxy) {
        self.proxy(proxy, Sign::Add);
    }

    /// Takes a proxy out again, as it was when it was counted.
    pub fn remove(&mut self, proxy: &Proxy) {
        self.proxy(proxy, Sign::Remove);
    }

    /// Counts an external service.
    pub fn add_external(&mut self, service: &ExternalService) {
        self.external(service, Sign::Add);
    }

    /// Takes an external service out again.
    pub fn remove_external(&mut self, service: &ExternalService) {
        self.external(service, Sign::Remove);
    }

    /// Counts a resource of a kind.
    pub fn add_resource(&mut self, kind: Kind) {
        count(&mut self.resources, kind, Sign::Add);
    }

    /// Takes a resource of a kind out again.
    pub fn remove_resource(&mut self, kind: Kind) {
        count(&mut self.resources, kind, Sign::Remove);
    }

    fn proxy(&mut self, proxy: &Proxy, sign: Sign) {
        let status = proxy.status();
        fare(&mut self.by_gateway, proxy.gateway(), status, sign);
        let version = proxy.last_subscription().and_then(|subscription| subscription.version.as_ref());
        let kuma_dp = version.and_then(|version| version.kuma_dp.as_ref()).map(|kuma_dp| kuma_dp.version.as_str());
        let envoy = version.and_then(|version| version.envoy.as_ref()).map(|envoy| envoy.version.as_str());
        fare(&mut self.kuma_dp, or_unknown(kuma_dp), status, sign);
        fare(&mut self.envoy, or_unknown(envoy), status, sign);
        let mtls = proxy.insight.as_deref().and_then(|insight| insight.m_tls.as_ref());
        if let Some(mtls) = mtls {
            fare(&mut self.issued, mtls.issued_backend.clone(), status, sign);
            for backend in &mtls.supported_backends {
                fare(&mut self.supported, backend.clone(), status, sign);
            }
        }
        let backend = mtls.map(|mtls| mtls.issued_backend.as_str()).filter(|backend| !backend.is_empty());
        if let (Some(kind), Some(tags)) = (proxy.gateway(), proxy.gateway_tags()) {
            self.service(tags, backend, sign, |service| fare(&mut service.gateways, kind, status, sign));
        }
        for inbound in proxy.inbounds() {
            self.service(&inbound.tags, backend, sign, |service| service.inbounds.change(status, sign));
        }
    }

    fn external(&mut self, external: &ExternalService, sign: Sign) {
        let address = external.networking.as_ref().map(|networking| networking.address.clone()).unwrap_or_default();
        self.service(&external.tags, None, sign, |service| count(&mut service.external, address, sign));
    }

    fn service(
        &mut self,
        tags: &BTreeMap<String, String>,
        backend: Option<&str>,
        sign: Sign,
        change: impl FnOnce(&mut ServiceTally),
    ) {
        let name = tags.get(SERVICE_TAG).cloned().unwrap_or_default();
        let service = self.services.entry(name.clone()).or_default();
        change(service);
        if let Some(backend) = backend {
            count(&mut service.issued, backend.to_owned(), sign);
        }
        if let Some(zone) = tags.get(ZONE).filter(|zone| !zone.is_empty()) {
            count(&mut service.zones, zone.clone(), sign);
        }
        if *service == ServiceTally::default() {
            self.services.remove(&name);
        }
    }
}

impl Fare {
    pub fn total(self) -> u32 {
        self.online + self.offline + self.degraded
    }

    fn change(&mut self, status: Status, sign: Sign) {
        let counter = match status {
            Status::Online => &mut self.online,
            Status::Offline => &mut self.offline,
            Status::PartiallyDegraded => &mut self.degraded,
        };
        *counter = changed(*counter, sign);
    }
}

impl std::ops::Add for Fare {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            online: self.online + other.online,
            offline: self.offline + other.offline,
            degraded: self.degraded + other.degraded,
        }
    }
}

fn changed(counter: u32, sign: Sign) -> u32 {
    match sign {
        Sign::Add => counter.saturating_add(1),
        Sign::Remove => counter.saturating_sub(1),
    }
}

fn fare<K: Ord + Clone>(fares: &mut BTreeMap<K, Fare>, key: K, status: Status, sign: Sign) {
    let fare = fares.entry(key.clone()).or_default();
    fare.change(status, sign);
    if fare.total() == 0 {
        fares.remove(&key);
    }
}

fn count<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: K, sign: Sign) {
    let counter = counts.entry(key.clone()).or_default();
    *counter = changed(*counter, sign);
    if *counter == 0 {
        counts.remove(&key);
    }
}

fn or_unknown(version: Option<&str>) -> String {
    version.filter(|version| !version.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{connected, proxy};
    use super::*;

    #[test]
    fn what_was_added_can_be_removed_in_any_order() {
        let sidecar = |zone: &str| {
            json!({"networking": {"inbound": [
            {"port": 80, "tags": {"kuma.io/service": "backend", "kuma.io/zone": zone}}]}})
        };
        let gateway = json!({"networking": {"gateway": {"tags": {"kuma.io/service": "edge"}}}});
        let proxies = [proxy(sidecar("east"), connected()), proxy(sidecar("west"), None), proxy(gateway, connected())];
        let mut tally = MeshTally::default();
        proxies.iter().for_each(|proxy| tally.add(proxy));
        tally.add_resource(Kind::MeshTimeout);
        let mut fewer = tally.clone();
        fewer.remove(&proxies[1]);
        fewer.add(&proxies[1]);
        assert_eq!(fewer, tally);
        proxies.iter().for_each(|proxy| tally.remove(proxy));
        tally.remove_resource(Kind::MeshTimeout);
        assert_eq!(tally, MeshTally::default());
    }
}
