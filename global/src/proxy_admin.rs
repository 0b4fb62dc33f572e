//! Questions to a zone's proxies: the global asks the zone over the stream that the zone opened for that, wherever it is
//! open (kds-wire 1.9, 5.8).

use std::sync::Arc;

use api::proxy_admin::{Failure, ProxyAdmin, Question};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;
use kds_proto::kuma::system::v1alpha1::{KdsStreams, ZoneInsight};
use model::{Key, Kind, Resource, insight, labels};
use serde::Deserialize;
use store::Store;

use crate::insights::StreamKind;
use crate::inter_cp::Peers;
use crate::kds::metrics::Metrics;

mod exchange;
mod line;

pub(crate) use exchange::{Clusters, ConfigDump, Exchange, Stats};
pub(crate) use line::{Line, Seat};

/// Lines to all zones that are connected to this instance, one for each operation. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub config_dump: Line<ConfigDump>,
    pub stats: Line<Stats>,
    pub clusters: Line<Clusters>,
}

impl Lines {
    /// No zone yet.
    pub fn new(clock: &runtime::Clock) -> Self {
        let clock = || clock.clone();
        Self { config_dump: Line::new(clock()), stats: Line::new(clock()), clusters: Line::new(clock()) }
    }

    /// Asks a proxy of a zone that is connected here; `name` is that of the proxy inside its zone.
    async fn ask(&self, zone: &str, proxy: &Key, name: &str, question: Question) -> Result<Bytes, String> {
        match question {
            Question::ConfigDump { .. } => self.config_dump.ask(zone, proxy, name, question).await,
            Question::Stats { .. } => self.stats.ask(zone, proxy, name, question).await,
            Question::Clusters { .. } => self.clusters.ask(zone, proxy, name, question).await,
        }
    }
}

/// The names of an operation.
struct Names {
    kind: StreamKind,
    /// In messages about zones.
    operation: &'static str,
    /// In messages about requests.
    request: &'static str,
}

fn names(question: Question) -> Names {
    let (kind, operation, request) = match question {
        Question::ConfigDump { .. } => (ConfigDump::KIND, ConfigDump::OPERATION, ConfigDump::REQUEST),
        Question::Stats { .. } => (Stats::KIND, Stats::OPERATION, Stats::REQUEST),
        Question::Clusters { .. } => (Clusters::KIND, Clusters::OPERATION, Clusters::REQUEST),
    };
    Names { kind, operation, request }
}

/// The way to the proxies of all zones.
#[derive(Clone, Debug)]
pub(crate) struct ThroughZones {
    pub store: Store,
    pub lines: Lines,
    pub instance: String,
    pub metrics: Metrics,
    /// Where other instances are asked; this one asks for itself alone without.
    pub peers: Option<Peers>,
}

impl ProxyAdmin for ThroughZones {
    fn ask<'a>(&'a self, proxy: &'a Arc<Resource>, question: Question) -> BoxFuture<'a, Result<Bytes, Failure>> {
        async move {
            let answer = self.route(proxy, question).await;
            let result = if answer.is_ok() { "ok" } else { "failed" };
            self.metrics.asked(names(question).kind.name(), result);
            answer
        }
        .boxed()
    }
}

impl ThroughZones {
    /// Asks the zone here or at the instance that holds its stream.
    async fn route(&self, proxy: &Resource, question: Question) -> Result<Bytes, Failure> {
        let names = names(question);
        let (zone, insight) = self.zone_of(proxy)?;
        if !insight::zone_is_online(&insight) {
            let operation = names.operation;
            return Err(Failure::Failed(format!("couldn't execute {operation} operation, zone is offline")));
        }
        let instance = instance(&insight, names.kind);
        if instance.is_empty() {
            let operation = names.operation;
            let text = format!("stream to execute {operation} operations is not yet connected");
            return Err(Failure::NotConnected(text));
        }
        match &self.peers {
            Some(peers) if instance != self.instance => peers.ask(&instance, proxy, question).await,
            _ => self.ask_here(proxy, &zone, &insight, question).await,
        }
    }

    /// Asks a zone that is connected to this instance, for another instance that says so.
    pub async fn ask_connected_here(&self, proxy: &Resource, question: Question) -> Result<Bytes, Failure> {
        let (zone, insight) = self.zone_of(proxy)?;
        self.ask_here(proxy, &zone, &insight, question).await
    }

    /// The zone of a proxy, and what is known of it.
    fn zone_of(&self, proxy: &Resource) -> Result<(String, Arc<ZoneInsight>), Failure> {
        let zone = zone_of(proxy);
        let insights = self.store.insights().borrow().clone();
        let stored = insights.get(&Key::global(Kind::ZoneInsight, &zone)).ok_or(Failure::NotFound)?;
        let insight = stored.spec.message().map_err(|error| Failure::Internal(error.to_string()))?;
        Ok((zone, insight))
    }

    /// Asks a zone that is connected to this instance.
    async fn ask_here(
        &self,
        proxy: &Resource,
        zone: &str,
        insight: &ZoneInsight,
        question: Question,
    ) -> Result<Bytes, Failure> {
        let request = names(question).request;
        let failed = |reason: String| Failure::Failed(format!("could not send {request}: {reason}"));
        let name = name_in_zone(proxy, zone, insight).map_err(failed)?;
        self.lines.ask(zone, &proxy.meta.key, &name, question).await.map_err(failed)
    }
}

/// Zone of a proxy: of an ingress what it says itself, of others their label, of the oldest the front of their name.
fn zone_of(proxy: &Resource) -> String {
    let said = (proxy.kind() == Kind::ZoneIngress)
        .then(|| proxy.spec.message::<ZoneIngress>().map(|ingress| ingress.zone.clone()).unwrap_or_default())
        .filter(|zone| !zone.is_empty());
    let labelled = || proxy.meta.zone().map(str::to_owned);
    let named = || proxy.meta.key.name.split_once('.').map(|(zone, _)| zone.to_owned());
    said.or_else(labelled).or_else(named).unwrap_or_default()
}

/// Instance of the global that holds the stream of a kind; empty when none does.
fn instance(insight: &ZoneInsight, kind: StreamKind) -> String {
    let mut streams: KdsStreams = insight.kds_streams.clone().unwrap_or_default();
    let older = insight.envoy_admin_streams.clone().unwrap_or_default();
    let older = match kind {
        StreamKind::ConfigDump => older.config_dump_global_instance_id,
        StreamKind::Stats => older.stats_global_instance_id,
        StreamKind::Clusters => older.clusters_global_instance_id,
        StreamKind::GlobalToZone | StreamKind::ZoneToGlobal => String::new(),
    };
    kind.of(&mut streams).take().map_or(older, |stream| stream.global_instance_id)
}

/// What a zone's configuration says that matters here.
#[derive(Deserialize)]
struct ZoneConfig {
    #[serde(default)]
    store: ZoneStore,
}

#[derive(Default, Deserialize)]
struct ZoneStore {
    #[serde(default)]
    r#type: String,
}

/// Name of a proxy inside its zone, which is not the hashed one that the global stores.
///
/// # Errors
/// The zone is offline, or does not say what store it has.
fn name_in_zone(proxy: &Resource, zone: &str, insight: &ZoneInsight) -> Result<String, String> {
    let shown = proxy.meta.display_name();
    // A name of the oldest sort, `<zone>.<name>`.
    if proxy.meta.key.name.starts_with(zone) {
        return Ok(shown.to_owned());
    }
    let last = insight.subscriptions.last().filter(|last| last.disconnect_time.is_none());
    let last = last.ok_or("zone is offline")?;
    let config: ZoneConfig =
        serde_json::from_str(&last.config).map_err(|_| "cannot read control-plane configuration")?;
    let namespace = proxy.meta.labels.get(labels::NAMESPACE).filter(|namespace| !namespace.is_empty());
    match namespace.filter(|_| config.store.r#type == "kubernetes") {
        Some(namespace) => Ok(format!("{shown}.{namespace}")),
        None => Ok(shown.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::system::v1alpha1::{EnvoyAdminStreams, KdsStream, KdsSubscription};
    use model::{Labels, Payload};
    use prost_types::Timestamp;

    use super::*;

    fn proxy(name: &str, pairs: &[(&str, &str)]) -> Resource {
        let labels: Labels = pairs.iter().copied().collect();
        Resource::new(Key::new(Kind::Dataplane, "default", name), labels, Payload::default())
    }

    fn insight(config: &str) -> ZoneInsight {
        let connect_time = Some(Timestamp::default());
        let last = KdsSubscription { config: config.into(), connect_time, ..KdsSubscription::default() };
        ZoneInsight { subscriptions: vec![last], ..ZoneInsight::default() }
    }

    #[test]
    fn a_proxy_is_asked_for_by_its_name_inside_the_zone() {
        let hashed = proxy("web-74f98zvcv9w24947", &[("kuma.io/zone", "east"), ("kuma.io/display-name", "web")]);
        let in_namespace = proxy(
            "web-74f98zvcv9w24947",
            &[("kuma.io/zone", "east"), ("kuma.io/display-name", "web"), ("k8s.kuma.io/namespace", "shop")],
        );
        let name = |proxy: &Resource, config: &str| name_in_zone(proxy, "east", &insight(config));
        assert_eq!(name(&hashed, r#"{"store":{"type":"postgres"}}"#), Ok("web".into()));
        assert_eq!(name(&in_namespace, r#"{"store":{"type":"postgres"}}"#), Ok("web".into()));
        assert_eq!(name(&in_namespace, r#"{"store":{"type":"kubernetes"}}"#), Ok("web.shop".into()));
        assert_eq!(name(&hashed, "{}"), Ok("web".into()));
        assert_eq!(name(&hashed, "?"), Err("cannot read control-plane configuration".into()));
        assert_eq!(name_in_zone(&hashed, "east", &ZoneInsight::default()), Err("zone is offline".into()));
        assert_eq!(name(&proxy("east.web", &[("kuma.io/display-name", "web")]), "?"), Ok("web".into()));
    }

    #[test]
    fn the_instance_with_the_stream_is_found_in_new_and_old_insights() {
        let mut insight = ZoneInsight {
            envoy_admin_streams: Some(EnvoyAdminStreams {
                stats_global_instance_id: "old".into(),
                ..EnvoyAdminStreams::default()
            }),
            ..ZoneInsight::default()
        };
        assert_eq!(instance(&insight, StreamKind::Stats), "old");
        assert_eq!(instance(&insight, StreamKind::Clusters), "");
        let stream = KdsStream { global_instance_id: "new".into(), connect_time: None };
        insight.kds_streams = Some(KdsStreams { stats: Some(stream), ..KdsStreams::default() });
        assert_eq!(instance(&insight, StreamKind::Stats), "new");
    }

    #[test]
    fn the_zone_of_a_proxy_is_its_label_or_the_front_of_an_old_name() {
        assert_eq!(zone_of(&proxy("web", &[("kuma.io/zone", "east")])), "east");
        assert_eq!(zone_of(&proxy("west.web", &[])), "west");
        let spec = Payload::from_message(&ZoneIngress { zone: "north".into(), ..ZoneIngress::default() });
        let ingress = Resource::new(Key::global(Kind::ZoneIngress, "i"), Labels::default(), spec);
        assert_eq!(zone_of(&ingress), "north");
    }
}
