//! Who proxies are: their certificates, and whom they trust (zone-dataplane 3).
//!
//! Certificates live in the memory of the instance that serves a proxy and nowhere else. [`Identities::secrets`] gives
//! what is there and issues what is missing, outlived or made for something else; [`Identities::changed`] says when it
//! is time to ask again. A certificate that cannot be renewed is kept until it can: what is wrong is logged, counted and
//! told by [`Identities::certificate`].

mod authorities;
mod metrics;
mod renewal;
mod request;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use config::Effective;
use envoy::{KeyPair, Secrets};
use identity::first_start::Internal;
use identity::mesh_ca::{Authority, KeyType, Leaf, Request};
use kds_proto::kuma::mesh::v1alpha1::{CertificateAuthorityBackend, Mesh};
use kds_proto::kuma::system::v1alpha1::Secret;
use model::spec::mesh::enabled_backend;
use model::{Key, Kind, Resource, Snapshot};
use runtime::{Clock, Fatal};
use tokio::sync::{Notify, watch};

use authorities::Authorities;
pub use metrics::Metrics;

/// What certificates are like.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What kind of keys workloads get.
    pub key: KeyType,
}

impl Settings {
    /// `dpServer.identity`.
    ///
    /// # Errors
    /// There is no such type of key.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        const KEY: &str = "dpServer.identity.keyType";
        let key = effective.text(KEY).parse();
        let key = key.map_err(|reason: String| Fatal::new(format!("cannot use {KEY}")).caused_by(reason))?;
        Ok(Self { key })
    }
}

/// The certificates of the proxies that this instance serves. Clones share them.
#[derive(Clone, Debug)]
pub struct Identities(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    authorities: Authorities,
    held: Mutex<BTreeMap<Place, Held>>,
    changed: watch::Sender<()>,
    /// A certificate was issued: the next renewal may be earlier than before.
    issued: Notify,
}

/// Where a certificate is shown: by a proxy, in a mesh; without a mesh on its admin interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    proxy: Key,
    mesh: Option<String>,
}

/// A certificate that a proxy has.
#[derive(Clone, Debug)]
struct Held {
    request: Request,
    backend: String,
    supported: Vec<String>,
    /// Whom those trust who trust the one that issued it.
    issuer: Bytes,
    /// Whom its owner trusts.
    trust: Bytes,
    leaf: Leaf,
    regenerations: u32,
    /// When its owner was last told that it is to be renewed.
    told: Option<DateTime<Utc>>,
    problem: Option<String>,
}

/// What is told about the certificate of a proxy (zone-dataplane 1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The backend that issued it.
    pub backend: String,
    /// The backends whose certificates the proxy takes.
    pub supported_backends: Vec<String>,
    /// When it was issued.
    pub issued: DateTime<Utc>,
    /// When it expires.
    pub expires: DateTime<Utc>,
    /// How many this instance has issued to the proxy.
    pub regenerations: u32,
    /// Why it could not be renewed.
    pub problem: Option<String>,
}

impl Identities {
    /// Without any certificate.
    pub fn new(settings: Settings, clock: Clock, metrics: Metrics) -> Self {
        let (changed, _) = watch::channel(());
        let authorities = Authorities::new(clock.clone(), metrics.clone());
        let held = Mutex::default();
        Self(Arc::new(Inner { settings, clock, metrics, authorities, held, changed, issued: Notify::new() }))
    }

    /// What is counted of them.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Says that proxies are to ask for their secrets again: some are to be renewed.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// What a proxy is given: its identity, the authorities that it trusts, the certificate of its admin interface.
    /// Issuing takes about a millisecond with keys on P-256, and a tenth of a second with RSA keys.
    pub fn secrets(&self, snapshot: &Snapshot, proxy: &Resource) -> Secrets {
        let mut secrets = Secrets::default();
        let meshes: Vec<&Arc<Resource>> = match proxy.kind() {
            Kind::Dataplane => snapshot.get(&Key::global(Kind::Mesh, &proxy.meta.key.mesh)).into_iter().collect(),
            Kind::ZoneEgress => snapshot.list(Kind::Mesh).collect(),
            _ => Vec::new(),
        };
        self.drop_others(&proxy.meta.key, &meshes);
        for mesh in meshes {
            if let Some(held) = self.of_mesh(snapshot, proxy, mesh) {
                let name = mesh.meta.key.name.to_string();
                secrets.mesh_cas.push((name.clone(), held.trust));
                secrets.identities.push((name, pair(&held.leaf)));
            }
        }
        if let Some(held) = self.of_admin(snapshot, proxy) {
            secrets.admin = pair(&held.leaf);
            secrets.admin_ca = held.trust;
        }
        secrets
    }

    /// What is to be told about the certificate that a proxy has in its mesh; of an egress, in the first of its meshes.
    pub fn certificate(&self, proxy: &Key) -> Option<Certificate> {
        let held = self.held();
        let first = Place { proxy: proxy.clone(), mesh: Some(String::new()) };
        let (_, held) = held.range(first..).next().filter(|(place, _)| place.proxy == *proxy)?;
        Some(Certificate {
            backend: held.backend.clone(),
            supported_backends: held.supported.clone(),
            issued: held.leaf.issued,
            expires: held.leaf.expires,
            regenerations: held.regenerations,
            problem: held.problem.clone(),
        })
    }

    /// A proxy is gone: what it had is forgotten.
    pub fn forget(&self, proxy: &Key) {
        self.held().retain(|place, _| place.proxy != *proxy);
        self.0.metrics.held(self.held().len());
    }

    /// What this control plane shows to admin interfaces of proxies, and whom it trusts there, PEM; `None` without an
    /// authority for them.
    pub fn admin_client(&self, snapshot: &Snapshot) -> Option<(KeyPair, Bytes)> {
        let authority = self.admin_authority(snapshot)?;
        let leaf = authority.issue(&request::of_admin_client(), self.0.clock.now());
        let leaf = leaf.inspect_err(|error| tracing::error!(%error, "no certificate to ask proxies with")).ok()?;
        Some((pair(&leaf), authority.trust().clone()))
    }

    /// The certificate of a proxy in a mesh; `None` where mTLS is off, or as long as none can be issued.
    fn of_mesh(&self, snapshot: &Snapshot, proxy: &Resource, resource: &Arc<Resource>) -> Option<Held> {
        let name = &resource.meta.key.name;
        let place = Place { proxy: proxy.meta.key.clone(), mesh: Some(name.to_string()) };
        let mesh = resource.spec.message::<Mesh>().ok()?;
        let Some(backend) = enabled(&mesh) else {
            self.held().remove(&place);
            return None;
        };
        let authority = match self.0.authorities.of(snapshot, resource, backend) {
            Ok(authority) => authority,
            Err(reason) => return self.keep(&place, &reason),
        };
        let request = match request::of_proxy(proxy, name, backend, self.0.settings.key) {
            Ok(request) => request,
            Err(reason) => return self.fail(&place, reason),
        };
        let backends: Vec<&CertificateAuthorityBackend> = mesh.mtls.iter().flat_map(|mtls| &mtls.backends).collect();
        let mut trust = authority.trust().to_vec();
        for other in backends.iter().filter(|other| other.name != backend.name) {
            if let Ok(other) = self.0.authorities.of(snapshot, resource, other) {
                trust.extend_from_slice(other.trust());
            }
        }
        let supported = backends.iter().map(|backend| backend.name.clone()).collect();
        let issuer = Issuer { authority: &authority, backend: &backend.name, supported, trust: trust.into() };
        self.current(place, request, issuer)
    }

    /// The certificate of a proxy's admin interface.
    fn of_admin(&self, snapshot: &Snapshot, proxy: &Resource) -> Option<Held> {
        let place = Place { proxy: proxy.meta.key.clone(), mesh: None };
        let authority = self.admin_authority(snapshot)?;
        let request = request::of_admin(proxy)?;
        let trust = authority.trust().clone();
        self.current(place, request, Issuer { authority: &authority, backend: "", supported: Vec::new(), trust })
    }

    fn admin_authority(&self, snapshot: &Snapshot) -> Option<Arc<Authority>> {
        self.0.authorities.of_secret(snapshot.get(&Internal::ProxyAdmin.key())?)
    }

    /// What is held when it still fits, else what is issued now.
    fn current(&self, place: Place, request: Request, issuer: Issuer<'_>) -> Option<Held> {
        let now = self.0.clock.now();
        let Issuer { authority, backend, supported, trust } = issuer;
        let mut regenerations = 0;
        if let Some(held) = self.held().get_mut(&place) {
            let fits = held.request == request && held.issuer == *authority.trust() && held.backend == backend;
            if fits && now < held.leaf.renewal() {
                (held.trust, held.supported, held.problem) = (trust, supported, None);
                return Some(held.clone());
            }
            regenerations = held.regenerations;
        }
        let mesh = place.mesh.as_deref().unwrap_or_default();
        let leaf = match self.0.metrics.timed(mesh, &self.0.clock, || authority.issue(&request, now)) {
            Ok(leaf) => leaf,
            Err(error) => return self.fail(&place, error.to_string()),
        };
        tracing::debug!(proxy = %place.proxy, mesh, backend, expires = %leaf.expires, "certificate issued");
        let held = Held {
            request,
            backend: backend.to_owned(),
            supported,
            issuer: authority.trust().clone(),
            trust,
            leaf,
            regenerations: regenerations + 1,
            told: None,
            problem: None,
        };
        let mut all = self.held();
        all.insert(place, held.clone());
        self.0.metrics.held(all.len());
        drop(all);
        self.0.issued.notify_one();
        Some(held)
    }

    /// The certificate that is held, since there cannot be another; says why, once.
    fn fail(&self, place: &Place, reason: String) -> Option<Held> {
        let mesh = place.mesh.as_deref().unwrap_or_default();
        self.0.metrics.failed(mesh);
        let known = self.held().get(place).and_then(|held| held.problem.clone());
        if known.as_ref() != Some(&reason) {
            tracing::error!(proxy = %place.proxy, mesh, reason, "no certificate for a proxy");
        }
        self.keep(place, &reason)
    }

    fn keep(&self, place: &Place, reason: &str) -> Option<Held> {
        let mut all = self.held();
        let held = all.get_mut(place)?;
        held.problem = Some(reason.to_owned());
        Some(held.clone())
    }

    /// Forgets the certificates of a proxy in meshes that are gone.
    fn drop_others(&self, proxy: &Key, meshes: &[&Arc<Resource>]) {
        let mut all = self.held();
        let first = Place { proxy: proxy.clone(), mesh: Some(String::new()) };
        let own = all.range(first..).map(|(place, _)| place).take_while(|place| place.proxy == *proxy);
        let is_gone = |place: &&Place| !meshes.iter().any(|mesh| place.mesh.as_deref() == Some(&*mesh.meta.key.name));
        let gone: Vec<Place> = own.filter(is_gone).cloned().collect();
        gone.iter().for_each(|place| drop(all.remove(place)));
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Place, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who issues, and what its owner is to trust.
struct Issuer<'a> {
    authority: &'a Authority,
    backend: &'a str,
    supported: Vec<String>,
    trust: Bytes,
}

fn enabled(mesh: &Mesh) -> Option<&CertificateAuthorityBackend> {
    let enabled = enabled_backend(mesh)?;
    mesh.mtls.iter().flat_map(|mtls| &mtls.backends).find(|backend| backend.name == enabled)
}

fn pair(leaf: &Leaf) -> KeyPair {
    KeyPair { certificate: leaf.certificate.clone(), key: leaf.key.clone() }
}

/// Content of a secret.
fn content(secret: &Resource) -> Option<Vec<u8>> {
    secret.spec.message::<Secret>().ok()?.data.clone()
}

#[cfg(test)]
mod tests;
