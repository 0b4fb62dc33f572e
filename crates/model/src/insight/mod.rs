//! What control planes conclude from what proxies report: pure functions, kept in the store as insights.
//!
//! Sources: api-and-kumactl 2.7, 3.3, 3.5, 3.24, 3.25.

use std::collections::BTreeMap;
use std::sync::Arc;

use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::inbound::State;
use kds_proto::kuma::mesh::v1alpha1::dataplane::networking::{Inbound, gateway::GatewayType};
use kds_proto::kuma::mesh::v1alpha1::{Dataplane, DataplaneInsight, DiscoverySubscription};
use kds_proto::kuma::system::v1alpha1::{KdsSubscription, ZoneInsight};

mod bookkeeper;
mod global;
mod mesh;
mod service;
mod tally;
pub mod zone;

pub use bookkeeper::{Bookkeeper, Corrections};
pub use global::{GlobalInsight, ZoneParts, global_insight};
pub use tally::MeshTally;

/// How a proxy, or a service, fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is connected and all of it is ready.
    Online,
    /// It is not connected, or nothing of it is ready.
    Offline,
    /// It is connected and a part of it is not ready.
    PartiallyDegraded,
}

/// A data plane proxy and what it reported last.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The proxy.
    pub dataplane: Arc<Dataplane>,
    /// What it reported; `None` when it never did.
    pub insight: Option<Arc<DataplaneInsight>>,
}

impl Proxy {
    /// How the proxy fares: a gateway by its connection alone, others by their inbounds too.
    pub fn status(&self) -> Status {
        let networking = self.dataplane.networking.as_ref();
        if !self.insight.as_deref().is_some_and(|insight| is_online(&insight.subscriptions)) {
            return Status::Offline;
        }
        if networking.is_some_and(|networking| networking.gateway.is_some()) {
            return Status::Online;
        }
        let inbounds = || networking.into_iter().flat_map(|networking| &networking.inbound);
        let unready = inbounds().filter(|inbound| is_unready(inbound)).count();
        match unready {
            0 => Status::Online,
            all if all == inbounds().count() => Status::Offline,
            _ => Status::PartiallyDegraded,
        }
    }

    /// Kind of gateway that it is, if it is one.
    fn gateway(&self) -> Option<GatewayType> {
        Some(self.dataplane.networking.as_ref()?.gateway.as_ref()?.r#type())
    }

    /// Inbounds that count: an ignored one is as good as absent.
    fn inbounds(&self) -> impl Iterator<Item = &Inbound> {
        let networking = self.dataplane.networking.iter();
        networking.flat_map(|networking| &networking.inbound).filter(|inbound| inbound.state() != State::Ignored)
    }

    /// Tags of the gateway, if it is one.
    fn gateway_tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.dataplane.networking.as_ref()?.gateway.as_ref()?.tags)
    }

    fn last_subscription(&self) -> Option<&DiscoverySubscription> {
        self.insight.as_deref()?.subscriptions.last()
    }
}

/// Whether some subscription is open: it has begun and has not ended.
pub fn is_online(subscriptions: &[DiscoverySubscription]) -> bool {
    subscriptions
        .iter()
        .any(|subscription| subscription.connect_time.is_some() && subscription.disconnect_time.is_none())
}

/// Whether a zone's control plane is connected.
pub fn zone_is_online(insight: &ZoneInsight) -> bool {
    let open =
        |subscription: &KdsSubscription| subscription.connect_time.is_some() && subscription.disconnect_time.is_none();
    insight.subscriptions.iter().any(open)
}

fn is_unready(inbound: &Inbound) -> bool {
    inbound.state() == State::NotReady || inbound.health.as_ref().is_some_and(|health| !health.ready)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn proxy(dataplane: Value, insight: Option<Value>) -> Proxy {
        use kds_proto::json::{UnknownFields::Refused, from_value};
        Proxy {
            dataplane: Arc::new(from_value(dataplane, Refused).unwrap()),
            insight: insight.map(|insight| Arc::new(from_value(insight, Refused).unwrap())),
        }
    }

    pub(super) fn connected() -> Option<Value> {
        Some(json!({"subscriptions": [{"id": "1", "connectTime": "2026-01-01T00:00:00Z", "version": {
            "kumaDp": {"version": "2.13.10"}, "envoy": {"version": "1.36.4"}}}]}))
    }

    fn status(networking: Value, insight: Option<Value>) -> Status {
        proxy(json!({"networking": networking}), insight).status()
    }

    #[test]
    fn a_proxy_fares_as_its_connection_and_its_inbounds_do() {
        let ready = json!({"port": 1, "tags": {"kuma.io/service": "a"}});
        let not_ready = json!({"port": 2, "state": "NotReady"});
        let unhealthy = json!({"port": 3, "health": {}});
        assert_eq!(status(json!({"inbound": [ready]}), None), Status::Offline);
        assert_eq!(status(json!({"inbound": [ready]}), connected()), Status::Online);
        assert_eq!(status(json!({"inbound": [ready, not_ready]}), connected()), Status::PartiallyDegraded);
        assert_eq!(status(json!({"inbound": [unhealthy, not_ready]}), connected()), Status::Offline);
        assert_eq!(status(json!({"gateway": {"tags": {"kuma.io/service": "g"}}}), connected()), Status::Online);
    }

    #[test]
    fn a_closed_subscription_is_no_connection() {
        let closed = json!({"subscriptions": [{"connectTime": "2026-01-01T00:00:00Z", "disconnectTime": "2026-01-01T00:01:00Z"}]});
        assert_eq!(status(json!({"inbound": [{"port": 1}]}), Some(closed)), Status::Offline);
    }
}
