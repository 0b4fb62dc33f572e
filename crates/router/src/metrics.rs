//! What a router counts, read from its servers when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::listeners::Listeners;
use crate::server::Refusal;
use crate::table::Counters;

/// Reads the counts of all listeners.
#[derive(Debug)]
pub struct Metrics(pub Arc<Listeners>);

/// What happens between a router and its control plane.
#[derive(Debug, Default)]
pub struct AdsCounts {
    connected: Gauge,
    streams: Counter,
    updates: Family<Vec<(&'static str, &'static str)>, Counter>,
}

impl AdsCounts {
    /// Has them told.
    pub fn register(&self, registry: &mut Registry) {
        let connected = "Whether a stream of the control plane is open";
        registry.register("router_control_plane_connected", connected, self.connected.clone());
        registry.register("router_control_plane_streams", "Streams that were opened", self.streams.clone());
        registry.register("router_updates", "Updates of the control plane, by result", self.updates.clone());
    }

    /// A stream was opened.
    pub fn connected(&self) {
        self.connected.set(1);
        self.streams.inc();
    }

    /// None is open.
    pub fn disconnected(&self) {
        self.connected.set(0);
    }

    /// An update came; whether all of it was taken.
    pub fn updated(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused_in_part" };
        self.updates.get_or_create(&vec![("result", result)]).inc();
    }
}

/// A count of a route, its name and its meaning.
type RouteCount = (&'static str, &'static str, Option<Unit>, fn(&Counters) -> &AtomicU64);

const ROUTE_COUNTS: &[RouteCount] = &[
    ("router_connections", "Connections that were routed", None, |counters| &counters.connections),
    ("router_unreachable", "Connections for which no endpoint could be reached", None, |counters| {
        &counters.unreachable
    }),
    ("router_sent", "Bytes from clients to endpoints, counted when a connection ends", Some(Unit::Bytes), |counters| {
        &counters.sent
    }),
    (
        "router_received",
        "Bytes from endpoints to clients, counted when a connection ends",
        Some(Unit::Bytes),
        |counters| &counters.received,
    ),
];

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (mut routes, mut listeners) = (Vec::new(), Vec::new());
        self.0.each(|name, server, table| {
            listeners.push((name.to_owned(), Arc::clone(server.shared()), table.len()));
            routes.extend(table.routes().into_iter().map(|route| (name.to_owned(), route)));
        });
        for (metric, help, unit, count) in ROUTE_COUNTS {
            let counter = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(metric, help, unit.as_ref(), counter.metric_type())?;
            for (listener, route) in &routes {
                let labels = [("listener", listener.as_str()), ("cluster", route.cluster.name())];
                let value = ConstCounter::new(count(&route.counters).load(Ordering::Relaxed));
                value.encode(family.encode_family(&labels)?)?;
            }
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family =
            encoder.encode_descriptor("router_refused", "Connections closed without a byte", None, kind)?;
        for (listener, shared, _) in &listeners {
            for refusal in Refusal::ALL {
                let labels = [("listener", listener.as_str()), ("reason", refusal.reason())];
                ConstCounter::new(shared.refused(refusal)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Connections that could not be accepted for lack of descriptors or memory";
        let mut family = encoder.encode_descriptor("router_shortages", help, None, kind)?;
        for (listener, shared, _) in &listeners {
            let labels = [("listener", listener.as_str())];
            ConstCounter::new(shared.shortages()).encode(family.encode_family(&labels)?)?;
        }
        let kind = ConstGauge::new(0_i64).metric_type();
        let mut family =
            encoder.encode_descriptor("router_open_connections", "Connections that are open", None, kind)?;
        for (listener, shared, _) in &listeners {
            let labels = [("listener", listener.as_str())];
            let open = i64::try_from(shared.open()).unwrap_or(i64::MAX);
            ConstGauge::new(open).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("router_routes", "Server names that are routed", None, kind)?;
        for (listener, _, routes) in &listeners {
            let labels = [("listener", listener.as_str())];
            ConstGauge::new(i64::try_from(*routes).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
