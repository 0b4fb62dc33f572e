//! Follows the control plane: a bootstrap, a connection, a stream, and again.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use discovery::stream::{End, Sink, Verdict, subscribe};
use discovery::subscriber::Update;
use futures::{TryStreamExt, stream};
use identity::bootstrap::{Client, Error as Unanswered, Patience};
use kds_proto::bootstrap::Request;
use kds_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use runtime::Clock;
use runtime::tasks::Backoff;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::dial::{Connection, dial};
use super::held::{Held, TYPES};
use super::source::Source;
use crate::metrics::AdsCounts;

/// Largest message: a listener of some 100,000 routes.
const LARGEST: usize = 64 << 20;
/// Requests that wait to be sent.
const REQUESTS: usize = 32;
/// Between two streams.
const PAUSES: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(15) };
/// Streams that fail in a row before a new bootstrap is asked for: the control plane may have moved, or have a new
/// certificate.
const FAILURES: u32 = 3;
/// After a refusal, when there is something to serve meanwhile.
const REFUSED: Duration = Duration::from_secs(30);

/// How a router gets its routes from a control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// Asks for bootstraps.
    pub client: Client,
    /// What is asked.
    pub request: Request,
    /// How long the first bootstrap may take when there is nothing to serve yet.
    pub patience: Patience,
    /// File that holds the token, read for every connection.
    pub token_file: Option<PathBuf>,
}

/// What a router holds and whether that is enough to serve.
#[derive(Debug)]
pub struct Followed {
    held: Mutex<Held>,
    ready: watch::Sender<bool>,
    counts: Arc<AdsCounts>,
}

impl Followed {
    /// With what is held already.
    pub fn new(held: Held, counts: Arc<AdsCounts>) -> Self {
        let ready = watch::Sender::new(held.is_ready());
        Self { held: Mutex::new(held), ready, counts }
    }

    /// Whether there is something to serve.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until there is.
    pub async fn ready(&self) {
        // The sender is ours, so this ends only when there is.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Keeps what is held on disk, in the background, for as long as it is held.
    pub fn keep(self: &Arc<Self>) {
        let followed = Arc::downgrade(self);
        if let Some(disk) = self.held().disk() {
            tokio::spawn(disk.keep(move || followed.upgrade().map(|followed| followed.held().encoded())));
        }
    }

    /// Tries again to listen where that failed.
    pub fn listen_again(&self) -> Vec<String> {
        self.held().serve()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ControlPlane {
    /// A bootstrap, asked for until there is one. With nothing to serve, patience ends and a refusal counts.
    ///
    /// # Errors
    /// There is none.
    pub async fn bootstrap(&self, serves: bool, clock: &Clock) -> Result<Source> {
        let patience = if serves { Patience { limit: None, ..self.patience } } else { self.patience };
        loop {
            let answer = match self.client.ask_until(&self.request()?, patience, clock).await {
                Err(error @ Unanswered::Refused(_)) if serves => {
                    tracing::error!(%error, "serving what was told last");
                    clock.sleep(REFUSED).await;
                    continue;
                }
                answer => answer.context("cannot get a bootstrap")?,
            };
            return Ok(Source::parse(&answer.bootstrap)?);
        }
    }

    /// Follows for ever, from this bootstrap on.
    pub async fn follow(&self, followed: &Followed, mut source: Source, clock: &Clock) -> Result<Infallible> {
        let (mut pauses, mut failures) = (PAUSES.pauses(), 0);
        loop {
            let began = Instant::now();
            let Err(error) = self.session(followed, &source).await;
            followed.counts.disconnected();
            failures += 1;
            if began.elapsed() > PAUSES.max {
                (pauses, failures) = (PAUSES.pauses(), 0);
            }
            let pause = pauses.next().unwrap_or(PAUSES.max);
            tracing::warn!(
                error = format!("{error:#}"),
                again_in_ms = pause.as_millis() as u64,
                "lost the control plane; serving what was told last"
            );
            clock.sleep(pause).await;
            if failures >= FAILURES {
                failures = 0;
                source = self.bootstrap(true, clock).await?;
            }
        }
    }

    async fn session(&self, followed: &Followed, source: &Source) -> Result<Infallible> {
        let token = self.token()?.or_else(|| source.token.clone());
        let Connection { calls, origin, ended } = dial(source, token.as_deref()).await?;
        tracing::info!(control_plane = %origin, proxy = source.node.id, "connected to the control plane");
        // Apart from the work, so that pings are answered while that computes. Ends with this function.
        let mut driver = JoinSet::new();
        driver.spawn(ended);
        let mut client = AggregatedDiscoveryServiceClient::with_origin(calls.clone(), origin)
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(LARGEST);
        let (requests, sent) = mpsc::channel(REQUESTS);
        // A control plane may send the head of its answer with the first message only.
        let call = async move { client.delta_aggregated_resources(ReceiverStream::new(sent)).await };
        let responses = Box::pin(stream::once(call).map_ok(tonic::Response::into_inner).try_flatten());
        followed.counts.connected();
        let mut taker = Taker { followed };
        let ended = tokio::select! {
            end = subscribe(responses, requests, TYPES, &source.node, &mut taker) => why(end),
            Some(Ok(error)) = driver.join_next() => error,
        };
        // A connection counts as done once nobody can make calls on it any more.
        drop(calls);
        Err(ended)
    }

    fn request(&self) -> Result<Request> {
        let mut request = self.request.clone();
        if let Some(token) = self.token()? {
            request.dataplane_token.0 = token;
        }
        Ok(request)
    }

    fn token(&self) -> Result<Option<String>> {
        let Some(file) = &self.token_file else {
            let given = &self.request.dataplane_token;
            return Ok((!given.is_empty()).then(|| given.0.clone()));
        };
        let token = std::fs::read_to_string(file).with_context(|| format!("cannot read the token {file:?}"))?;
        Ok(Some(token.trim().to_owned()))
    }
}

/// Hands updates to what is held.
struct Taker<'a> {
    followed: &'a Followed,
}

impl Sink for Taker<'_> {
    async fn take(&mut self, update: &Update) -> Result<Verdict, String> {
        let began = Instant::now();
        let (refused, ready) = {
            let mut held = self.followed.held();
            (held.take(update), held.is_ready())
        };
        let (type_url, resources) = (&*update.type_url, update.resources.len());
        let took_ms = began.elapsed().as_millis() as u64;
        tracing::debug!(type_url, resources, removed = update.removed.len(), took_ms, "took an update");
        self.followed.counts.updated(refused.is_empty());
        self.followed.ready.send_if_modified(|before| std::mem::replace(before, ready) != ready);
        if refused.is_empty() {
            return Ok(Verdict::Accepted);
        }
        let reasons = refused.join("; ");
        tracing::warn!(type_url, reasons, "refused some of an update");
        Ok(Verdict::Refused(reasons))
    }
}

/// Why a stream ended, for the log.
fn why(end: End) -> anyhow::Error {
    match end {
        End::Left => anyhow!("the control plane ended the stream"),
        End::Status(status) => anyhow!("the control plane ended the stream: {}: {}", status.code(), status.message()),
        End::Fault(fault) => anyhow!("the control plane breaks the protocol: {fault}"),
        End::NotTaken(reason) => anyhow!(reason),
    }
}
