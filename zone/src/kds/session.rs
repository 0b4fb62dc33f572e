//! One connection, from the dial to its end (kds-wire 1.1, 5.9).

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use discovery::kds::node::{Features, Introduction};
use discovery::kds::up::{Up, matters};
use discovery::kds::{Moment, follow as follow_store, rules};
use discovery::stream::{End, Observer, publish, subscribe};
use futures::{Stream, TryStreamExt, stream};
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::kuma::mesh::v1alpha1::global_kds_service_client::GlobalKdsServiceClient;
use kds_proto::kuma::mesh::v1alpha1::kds_sync_service_client::KdsSyncServiceClient;
use kds_proto::kuma::system::v1alpha1::KumaCpVersion;
use model::Kind;
use model::insight::{self, zone::Count};
use store::Fence;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::admin::Asker;
use super::dial::{Calls, Connection, dial};
use super::identity_first::identity_first;
use super::insight::Account;
use super::receive::Receiver;
use super::{Zone, health, membership};

/// For the reason of a lost connection to show.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Requests that wait to be sent: all subscriptions, which are made before the call begins.
const REQUESTS: usize = 128;

/// How a session ended.
pub(crate) struct Ended {
    pub error: anyhow::Error,
    /// Whether the global's updates had arrived.
    pub stood: bool,
}

/// Connects and follows the global until something ends that.
pub(crate) async fn run(zone: &Zone, fence: &Fence) -> Ended {
    let (stood, standing) = watch::channel(false);
    let Err(error) = follow(zone, fence, &stood).await;
    Ended { error, stood: *standing.borrow() }
}

async fn follow(zone: &Zone, fence: &Fence, stood: &watch::Sender<bool>) -> Result<Infallible> {
    let renamed = membership::renamed(&zone.store.configuration().borrow(), &zone.name);
    if !renamed.is_empty() {
        tracing::warn!(
            zone = zone.name,
            resources = renamed.len(),
            "what another name of this zone made becomes its own"
        );
        zone.store.apply(renamed.fenced(fence.clone())).await?;
    }
    let Connection { calls, ended } = dial(&zone.federation, &zone.name, &zone.clock).await?;
    tracing::debug!(global = %zone.federation.global, "connected to the global");
    // Apart from the work, so that pings are answered while that computes. Ends with this function.
    let mut driver = JoinSet::new();
    driver.spawn(ended);
    let account = Account::open(&zone.name, &zone.instance, &zone.clock);
    let session = Session { zone, fence, calls, account: &account, stood };
    let error = tokio::select! {
        biased;
        Some(Ok(error)) = driver.join_next() => error,
        Err(error) = session.calls() => match zone.clock.timeout(LAST_WORDS, driver.join_next()).await {
            // A call that broke with its connection does not know why.
            Some(Some(Ok(lost))) if !is_the_globals(&error) => lost,
            _ => error,
        },
    };
    account.close(&zone.store, fence).await;
    Err(error)
}

/// Whether a status came from the other end, not from a connection that broke.
fn is_the_globals(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_none_or(|status| std::error::Error::source(status).is_none())
}

/// What the calls of a session share.
struct Session<'a> {
    zone: &'a Zone,
    fence: &'a Fence,
    calls: Calls,
    account: &'a Account,
    stood: &'a watch::Sender<bool>,
}

impl Session<'_> {
    /// Makes all calls, until one of them ends.
    async fn calls(&self) -> Result<Infallible> {
        let (zone, max) = (self.zone, self.zone.federation.max_message);
        let sync = KdsSyncServiceClient::with_origin(self.calls.clone(), self.calls.origin())
            .max_decoding_message_size(max)
            .max_encoding_message_size(max);
        let admin = GlobalKdsServiceClient::with_origin(self.calls.clone(), self.calls.origin())
            .max_decoding_message_size(max)
            .max_encoding_message_size(max);
        let asker = Asker { store: &zone.store, proxies: zone.proxies.as_deref(), clock: &zone.clock };
        let (never, ..) = tokio::try_join!(
            self.down(sync.clone()),
            self.up(sync),
            self.account.keep(&zone.store, self.fence),
            health::keep_checking(admin.clone(), &zone.clock),
            asker.answer_all(&admin),
        )?;
        match never {}
    }

    /// GlobalToZoneSync: what the global tells goes into the store.
    async fn down(&self, client: KdsSyncServiceClient<Calls>) -> Result<Infallible> {
        let zone = self.zone;
        let (requests, sent) = mpsc::channel(REQUESTS);
        let responses = opened(async move {
            let mut client = client;
            client.global_to_zone_sync(ReceiverStream::new(sent)).await
        });
        let responses = identity_first(responses, zone.clock.clone());
        let introduction = Introduction {
            id: zone.name.clone(),
            instance: zone.instance.clone(),
            version: KumaCpVersion {
                version: api::VERSION.to_owned(),
                git_tag: api::VERSION.to_owned(),
                ..KumaCpVersion::default()
            },
            config: zone.federation.document.to_string(),
            features: Features::ALL,
        };
        let mut receiver = Receiver { zone, fence: self.fence, stood: self.stood, failure: None };
        let kinds = rules::down_kinds(&zone.federation.off).map(Kind::name);
        let end = subscribe(Box::pin(responses), requests, kinds, &introduction.to_node(), &mut receiver).await;
        Err(receiver.failure.unwrap_or_else(|| why("GlobalToZoneSync", end)))
    }

    /// ZoneToGlobalSync: what is the zone's own goes up, once the global asks.
    async fn up(&self, client: KdsSyncServiceClient<Calls>) -> Result<Infallible> {
        let zone = self.zone;
        let (responses, sent) = mpsc::channel(1);
        let requests = opened(async move {
            let mut client = client;
            client.zone_to_global_sync(ReceiverStream::new(sent)).await
        });
        let (configuration, insights) = (zone.store.configuration(), zone.store.insights());
        let (moments, told) = watch::channel(Moment::latest(&configuration, &insights));
        let view = Up::new(&zone.name, zone.federation.skip_prefixes.clone(), zone.federation.off.clone());
        let observer = Watcher { account: self.account, zone };
        tokio::select! {
            end = publish(requests, responses, &zone.name, |_| view, told, &observer) => {
                Err(why("ZoneToGlobalSync", end))
            }
            () = follow_store(configuration, insights, &moments, matters, || zone.clock.elapsed()) => Err(anyhow!("the store is closed")),
        }
    }
}

/// Counts what becomes of responses.
struct Watcher<'a> {
    account: &'a Account,
    zone: &'a Zone,
}

impl Observer for Watcher<'_> {
    fn introduced(&self, node: &Node) {
        let global = Introduction::of(node);
        self.account.describe(|subscription| {
            subscription.global_instance_id = global.instance;
            subscription.version = Some(insight::zone::version(global.version, api::VERSION));
        });
    }

    fn sent(&self, type_url: &str) {
        self.account.count(type_url, Count::Sent);
        self.zone.metrics.told(type_url, "sent");
    }

    fn measured(&self, type_url: &str, bytes: usize, changed: Option<Duration>) {
        let delay = changed.map(|changed| self.zone.clock.elapsed().saturating_sub(changed));
        self.zone.metrics.weighed(type_url, bytes, delay);
    }

    fn acknowledged(&self, type_url: &str) {
        self.account.count(type_url, Count::Acknowledged);
        self.zone.metrics.told(type_url, "acknowledged");
    }

    fn refused(&self, type_url: &str, message: &str) {
        tracing::warn!(kind = type_url, reason = message, "the global refused some of what this zone tells");
        self.account.count(type_url, Count::Rejected);
        self.zone.metrics.told(type_url, "refused");
    }
}

/// The stream of a call that begins when it is first looked at. Its head is not waited for by itself: a global of Kuma sends
/// it with the first message.
fn opened<M: Send + 'static>(
    call: impl Future<Output = Result<tonic::Response<tonic::Streaming<M>>, Status>> + Send,
) -> impl Stream<Item = Result<M, Status>> + Send + Unpin {
    Box::pin(stream::once(call).map_ok(tonic::Response::into_inner).try_flatten())
}

/// Why a stream ended, for the log.
fn why(stream: &'static str, end: End) -> anyhow::Error {
    match end {
        End::Left => anyhow!("the global ended {stream}"),
        End::Status(status) => anyhow::Error::new(status).context(format!("{stream} failed")),
        End::Fault(fault) => anyhow!("the global breaks the protocol on {stream}: {fault}"),
        End::NotTaken(reason) => anyhow!("{stream}: {reason}"),
    }
}
