//! `KDSSyncService`: what zones are to hold, and what they have (kds-wire 2, 3, 5.1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use discovery::kds::Moment;
use discovery::kds::down::Down;
use discovery::kds::node::{HASHES_NAMES, Introduction};
use discovery::kds::rules::{self, Peer};
use discovery::outgoing::{Outgoing, outgoing};
use discovery::stream::{End, Observer, publish, subscribe};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_server::KdsSyncService;
use kds_proto::kuma::system::v1alpha1::KumaCpVersion;
use model::Kind;
use model::insight::zone::Count;
use runtime::Clock;
use serde::Deserialize;
use tonic::{Request, Response, Status, Streaming};

use super::Door;
use super::ending::Ending;
use super::metrics::Metrics;
use super::sink::FromZone;
use crate::insights::{StreamKind, Subscription};
use crate::zones::Handle;

/// What the responses to zones say their sender is called (kds-wire 2.5).
const IDENTIFIER: &str = "global";

#[tonic::async_trait]
impl KdsSyncService for Door {
    type GlobalToZoneSyncStream = Outgoing<DeltaDiscoveryResponse>;
    type ZoneToGlobalSyncStream = Outgoing<DeltaDiscoveryRequest>;

    async fn global_to_zone_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::GlobalToZoneSyncStream>, Status> {
        const KIND: StreamKind = StreamKind::GlobalToZone;
        let (caller, session) = self.open(&request, KIND).await?;
        let (responses, end, stream) = outgoing();
        let account = Account {
            subscription: self.insights.subscription(&session.zone, session.connected, caller.credential.is_some()),
            session: session.handle(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
        };
        let (shared, mut moments, zone) = (Arc::clone(&self.down), self.moments.clone(), Arc::clone(&session.zone));
        let (store, off) = (self.store.clone(), self.settings.off.clone());
        self.run(session, KIND, end, async move {
            // A zone deletes what the first response lacks. So nothing is said while there is nothing at all, nor by an
            // instance that lags behind what others have told the zone.
            if let Err(error) = store.catch_up().await {
                return Ending::Failed(format!("cannot tell what is new: {error}"));
            }
            let newest = Moment::latest(&store.configuration(), &store.insights());
            if moments.wait_for(|moment| is_complete(moment, &newest, &off)).await.is_err() {
                return Ending::Stopping;
            }
            let view = |node: &Node| {
                let features = Introduction::of(node).features;
                Down::new(Peer { zone, features }, shared)
            };
            publish(request.into_inner(), responses, IDENTIFIER, view, moments, &account).await.into()
        });
        Ok(Response::new(stream))
    }

    /// The requests go out before the zone has said anything (KDS-9).
    async fn zone_to_global_sync(
        &self,
        request: Request<Streaming<DeltaDiscoveryResponse>>,
    ) -> Result<Response<Self::ZoneToGlobalSyncStream>, Status> {
        const KIND: StreamKind = StreamKind::ZoneToGlobal;
        let (caller, session) = self.open(&request, KIND).await?;
        let (requests, end, stream) = outgoing();
        let node = Introduction {
            id: session.zone.to_string(),
            instance: self.settings.instance.clone(),
            version: KumaCpVersion { version: api::VERSION.to_owned(), ..KumaCpVersion::default() },
            ..Introduction::default()
        };
        let mut sink = FromZone {
            zone: Arc::clone(&session.zone),
            hashes_names: caller.has(HASHES_NAMES),
            store: self.store.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
        };
        let off = self.settings.off.clone();
        self.run(session, KIND, end, async move {
            let kinds = rules::up_kinds(&off).map(Kind::name);
            subscribe(request.into_inner(), requests, kinds, &node.to_node(), &mut sink).await.into()
        });
        Ok(Response::new(stream))
    }
}

/// Whether everything that a zone may be told is known, and there is something (KDS-30).
fn is_complete(moment: &Moment, newest: &Moment, off: &BTreeSet<Kind>) -> bool {
    let told = |kind: Kind| moment.of(kind).changed_at(kind) >= newest.of(kind).changed_at(kind);
    rules::down_kinds(off).all(told) && rules::down_kinds(off).any(|kind| moment.of(kind).count(kind) > 0)
}

impl From<End> for Ending {
    fn from(end: End) -> Self {
        match end {
            End::Left => Self::Left,
            End::Status(status) => Self::of(&status),
            End::Fault(fault) => Self::Failed(fault.to_string()),
            End::NotTaken(reason) => Self::Failed(reason),
        }
    }
}

/// Writes down what happens on one `GlobalToZoneSync` stream.
struct Account {
    subscription: Subscription,
    session: Handle,
    metrics: Metrics,
    clock: Clock,
}

/// What a control plane's configuration says that matters here.
#[derive(Deserialize)]
struct Mode {
    #[serde(default)]
    mode: String,
}

impl Observer for Account {
    fn introduced(&self, node: &Node) {
        let Introduction { instance, version, config, .. } = Introduction::of(node);
        if serde_json::from_str::<Mode>(&config).is_ok_and(|config| config.mode == "global") {
            self.session.end(Ending::Stranger(
                "a global control plane cannot follow another one: give this address to control planes of zones alone \
                 (multizone.zone.globalAddress)"
                    .to_owned(),
            ));
        }
        if !instance.is_empty() {
            self.session.is_of(&instance);
        }
        self.subscription.described(&instance, version, &config);
    }

    fn sent(&self, type_url: &str) {
        self.metrics.response(StreamKind::GlobalToZone, "sent");
        self.subscription.count(type_url, Count::Sent);
    }

    fn measured(&self, type_url: &str, bytes: usize, changed: Option<Duration>) {
        let delay = changed.map(|changed| self.clock.elapsed().saturating_sub(changed));
        self.metrics.told(type_url, bytes, delay);
    }

    fn acknowledged(&self, type_url: &str) {
        self.metrics.response(StreamKind::GlobalToZone, "acknowledged");
        self.subscription.count(type_url, Count::Acknowledged);
    }

    fn refused(&self, type_url: &str, message: &str) {
        self.metrics.response(StreamKind::GlobalToZone, "rejected");
        if type_url.parse::<Kind>().is_ok() {
            self.metrics.rejected("zone", type_url);
        }
        self.subscription.count(type_url, Count::Rejected);
        let zone = &*self.session.zone;
        // The author of the zone's own resource has to act, nobody here.
        if message.starts_with("user error") {
            tracing::info!(zone, kind = type_url, message, "a zone refused resources");
        } else {
            tracing::warn!(zone, kind = type_url, message, "a zone refused resources");
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Change, Key, Labels, Payload, Resource, Snapshot};

    use super::*;

    /// KDS-30: of nothing, and of less than others know, no zone is told anything.
    #[test]
    fn an_instance_that_lags_behind_is_silent() {
        let put = |kind, name: &str| {
            let mesh = if kind == Kind::Mesh { "" } else { "default" };
            Change::Put(Arc::new(Resource::new(Key::new(kind, mesh, name), Labels::default(), Payload::default())))
        };
        let moment = |configuration: Snapshot| Moment {
            configuration: Arc::new(configuration),
            insights: Arc::new(Snapshot::empty()),
            made: Duration::ZERO,
        };
        let empty = moment(Snapshot::empty());
        let first = moment(empty.configuration.apply(1, [put(Kind::Mesh, "default")]));
        let second = moment(first.configuration.apply(2, [put(Kind::MeshTimeout, "slow")]));
        let third = moment(second.configuration.apply(3, [put(Kind::Dataplane, "dp")]));
        let complete = |at: &Moment, newest: &Moment| is_complete(at, newest, &BTreeSet::new());
        assert!(!complete(&empty, &empty) && !complete(&empty, &first) && !complete(&first, &second));
        assert!(complete(&first, &first) && complete(&second, &first));
        assert!(complete(&second, &third), "dataplanes do not go down");
        assert!(is_complete(&first, &second, &[Kind::MeshTimeout].into()), "what is switched off is not waited for");
    }
}
