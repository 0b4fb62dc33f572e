//! Where configurations of proxies are made: whenever something changes that may concern them, and for no others.

use std::borrow::Cow;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use envoy::{Configuration, Input, Secrets};
use kds_proto::kuma::mesh::v1alpha1::Mesh;
use model::spec::mesh::enabled_backend;
use model::{Key, Kind, Snapshot};
use runtime::Clock;
use store::Store;
use tokio::sync::{Semaphore, watch};

use super::introduction::Introduction;
use super::metrics::Metrics;
use super::touched::Touched;
use crate::Identities;

/// Makes configurations. Cheap to clone; clones are one.
#[derive(Clone, Debug)]
pub(super) struct Workshop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    settings: envoy::Settings,
    identities: Identities,
    touched: Touched,
    /// For proxies that have nothing yet, and for those that have: the former do not wait for the latter. As many at a
    /// time as there are processors, so that everything else goes on meanwhile.
    places: (Semaphore, Semaphore),
    metrics: Metrics,
    clock: Clock,
}

/// Why there is no configuration: the proxy keeps what it has.
type NotYet = String;

impl Workshop {
    pub fn new(
        store: Store,
        settings: envoy::Settings,
        identities: Identities,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let places = (Semaphore::new(processors), Semaphore::new(processors));
        Self(Arc::new(Inner { store, settings, identities, touched: Touched::default(), places, metrics, clock }))
    }

    /// Listens to the store until it closes.
    pub async fn follow(&self) {
        self.0.touched.follow(&self.0.store).await;
    }

    /// Makes the configuration of a proxy and keeps it true.
    pub fn order(&self, proxy: Arc<Introduction>) -> Order {
        Order {
            touched: self.0.touched.of(&proxy.key.mesh),
            renewed: self.0.identities.changed(),
            workshop: self.clone(),
            proxy,
            secrets: None,
            trouble: None,
        }
    }

    /// A proxy has left.
    pub fn forget(&self, proxy: &Key) {
        self.0.identities.forget(proxy);
    }
}

/// The standing order of one proxy.
#[derive(Debug)]
pub(super) struct Order {
    workshop: Workshop,
    proxy: Arc<Introduction>,
    touched: watch::Receiver<()>,
    renewed: watch::Receiver<()>,
    /// What it was given last.
    secrets: Option<Secrets>,
    /// What was told of last, so that a log does not fill with one sentence.
    trouble: Option<NotYet>,
}

impl Order {
    /// The first configuration, once there can be one.
    pub async fn first(&mut self) -> Arc<Configuration> {
        loop {
            if let Some(made) = self.made(None).await {
                return made;
            }
            self.something_new().await;
        }
    }

    /// Follows what changes, for as long as it is waited for.
    pub async fn follow(mut self, told: &watch::Sender<Arc<Configuration>>) {
        loop {
            let of_snapshot = self.something_new().await;
            let before = told.borrow().clone();
            if let Some(made) = self.made((!of_snapshot).then_some(&before)).await {
                told.send_replace(made);
            }
        }
    }

    /// Waits; whether it is the snapshot that changed. Says nothing any more when the program ends.
    async fn something_new(&mut self) -> bool {
        let (changed, of_snapshot) = tokio::select! {
            changed = self.touched.changed() => (changed, true),
            changed = self.renewed.changed() => (changed, false),
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
        of_snapshot
    }

    /// Made from what there is now. `unless_renewed`: what stands, when only new secrets would be a reason.
    async fn made(&mut self, unless_renewed: Option<&Arc<Configuration>>) -> Option<Arc<Configuration>> {
        let Inner { store, places, metrics, clock, .. } = &*self.workshop.0;
        let (first, later) = places;
        let place = if self.secrets.is_none() { first } else { later };
        let _place = place.acquire().await.ok()?;
        self.touched.borrow_and_update();
        self.renewed.borrow_and_update();
        let snapshot = store.configuration().borrow().clone();
        let started = clock.elapsed();
        let made =
            self.workshop.make(&self.proxy, &snapshot, self.secrets.as_ref().filter(|_| unless_renewed.is_some()));
        metrics.made(clock.elapsed().saturating_sub(started), made.is_ok());
        match made {
            Ok(made) => {
                self.trouble = None;
                let (configuration, secrets) = made?;
                self.secrets = Some(secrets);
                Some(configuration)
            }
            Err(reason) => {
                if self.trouble.as_ref() != Some(&reason) {
                    let (proxy, keeps) = (&self.proxy.key, self.secrets.is_some());
                    tracing::warn!(%proxy, reason, keeps_last = keeps, "no configuration can be made for a proxy");
                    self.trouble = Some(reason);
                }
                None
            }
        }
    }
}

impl Workshop {
    /// `None` when the secrets are those that the proxy `has`.
    fn make(
        &self,
        proxy: &Introduction,
        snapshot: &Snapshot,
        has: Option<&Secrets>,
    ) -> Result<Option<(Arc<Configuration>, Secrets)>, NotYet> {
        let resource = snapshot.get(&proxy.key).ok_or_else(|| "its resource is gone".to_owned())?;
        let secrets = self.0.identities.secrets(snapshot, resource);
        if has == Some(&secrets) {
            return Ok(None);
        }
        check_identity(snapshot, &proxy.key, &secrets)?;
        let mut node = Cow::Borrowed(&proxy.node);
        if secrets.admin.certificate.is_empty() {
            // Nobody could be told from a stranger there.
            node.to_mut().admin_port = 0;
        }
        let input = Input { snapshot, settings: &self.0.settings, resource, node: &node, secrets: &secrets };
        let configuration = envoy::configuration(input).map_err(|error| error.to_string())?;
        Ok(Some((Arc::new(configuration), secrets)))
    }
}

/// A proxy of a mesh with mTLS gets nothing before it can prove who it is, rather than half of it.
fn check_identity(snapshot: &Snapshot, proxy: &Key, secrets: &Secrets) -> Result<(), NotYet> {
    if proxy.kind != Kind::Dataplane {
        return Ok(());
    }
    let mesh = snapshot.get(&Key::global(Kind::Mesh, &proxy.mesh));
    let mesh = mesh.and_then(|mesh| mesh.spec.message::<Mesh>().ok());
    let Some(backend) = mesh.as_deref().and_then(enabled_backend) else { return Ok(()) };
    if secrets.identities.iter().any(|(mesh, _)| **mesh == *proxy.mesh) {
        return Ok(());
    }
    Err(format!("mTLS is on in its mesh, and there is no certificate of backend {backend:?} for it yet"))
}
