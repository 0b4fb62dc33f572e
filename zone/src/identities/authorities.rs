//! The authorities of meshes, read once and again when what they were read from has changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use identity::mesh_ca::{Authority, AuthorityError};
use kds_proto::kuma::mesh::v1alpha1::CertificateAuthorityBackend;
use kds_proto::kuma::system::v1alpha1::DataSource;
use kds_proto::kuma::system::v1alpha1::data_source::Type as Source;
use model::spec::mesh;
use model::{Key, Kind, Resource, Snapshot};
use runtime::Clock;

use super::content;
use super::metrics::Metrics;

/// How long the content of a file counts.
const FILE_LIFETIME: Duration = Duration::from_secs(10);
/// A certificate or a key; more than this is something else.
const MAX_FILE: u64 = 1 << 20;

/// Authorities by mesh and backend.
#[derive(Debug)]
pub(super) struct Authorities {
    clock: Clock,
    metrics: Metrics,
    read: Mutex<BTreeMap<(String, String), Read>>,
}

#[derive(Debug)]
struct Read {
    /// The mesh, and the secrets that its backend names, as they were.
    from: Vec<Option<Arc<Resource>>>,
    /// When files were read.
    files: Option<Duration>,
    outcome: Result<Arc<Authority>, AuthorityError>,
}

impl Authorities {
    pub(super) fn new(clock: Clock, metrics: Metrics) -> Self {
        Self { clock, metrics, read: Mutex::default() }
    }

    /// The authority of a backend of a mesh, or why there is none, which is logged once.
    pub(super) fn of(
        &self,
        snapshot: &Snapshot,
        mesh: &Arc<Resource>,
        backend: &CertificateAuthorityBackend,
    ) -> Result<Arc<Authority>, String> {
        let name = &mesh.meta.key.name;
        let sources =
            mesh::authority_sources(name, backend).map_or_else(|_| Vec::new(), |(one, other)| vec![one, other]);
        let secret = |source: &DataSource| match &source.r#type {
            Some(Source::Secret(secret)) => snapshot.get(&Key::new(Kind::Secret, name, secret)).cloned(),
            _ => None,
        };
        let mut from: Vec<Option<Arc<Resource>>> = vec![Some(Arc::clone(mesh))];
        from.extend(sources.iter().map(secret));
        let has_files = sources.iter().any(|source| matches!(source.r#type, Some(Source::File(_))));
        let load = |source: &DataSource| match &source.r#type {
            Some(Source::Secret(_)) => {
                secret(source).and_then(|secret| content(&secret)).ok_or_else(|| "it is not there".to_owned())
            }
            Some(Source::File(path)) => small_file(path),
            _ => mesh::held(source).ok_or_else(|| "nothing is named".to_owned()),
        };
        let key = (name.to_string(), backend.name.clone());
        let outcome = self.remembered(key, from, has_files, || Authority::of(name, backend, &load));
        outcome.map_err(|error| format!("mesh {name:?}, backend {:?}: {error}", backend.name))
    }

    /// The authority in a secret that holds both certificate and key.
    pub(super) fn of_secret(&self, secret: &Arc<Resource>) -> Option<Arc<Authority>> {
        let place = secret.meta.key.to_string();
        let key = (String::new(), place.clone());
        let data = || content(secret).unwrap_or_default();
        let read = || Authority::read(&data(), &place, &data(), &place);
        self.remembered(key, vec![Some(Arc::clone(secret))], false, read).ok()
    }

    fn remembered(
        &self,
        key: (String, String),
        from: Vec<Option<Arc<Resource>>>,
        has_files: bool,
        read: impl FnOnce() -> Result<Authority, AuthorityError>,
    ) -> Result<Arc<Authority>, AuthorityError> {
        let now = self.clock.elapsed();
        if let Some(known) = self.read().get(&key)
            && known.is_current(&from, now)
        {
            return known.outcome.clone();
        }
        let outcome = read().map(Arc::new);
        let mut all = self.read();
        let before = all.get(&key).map(|known| &known.outcome);
        let (mesh, backend) = (&*key.0, &*key.1);
        match &outcome {
            Err(error) if before.and_then(|before| before.as_ref().err()) != Some(error) => {
                tracing::error!(mesh, backend, %error, "an authority cannot issue certificates");
            }
            Ok(authority) if matches!(before, Some(Err(_))) => {
                tracing::info!(mesh, backend, expires = %authority.expires(), "an authority can issue certificates again");
            }
            _ => {}
        }
        if let Ok(authority) = &outcome {
            self.metrics.authority(mesh, backend, authority.expires());
        }
        all.insert(key, Read { from, files: has_files.then_some(now), outcome: outcome.clone() });
        outcome
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<(String, String), Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    fn is_current(&self, from: &[Option<Arc<Resource>>], now: Duration) -> bool {
        let same = |(before, after): (&Option<Arc<Resource>>, &Option<Arc<Resource>>)| match (before, after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        };
        let is_fresh = self.files.is_none_or(|read| now.saturating_sub(read) < FILE_LIFETIME);
        is_fresh && self.from.len() == from.len() && self.from.iter().zip(from).all(same)
    }
}

fn small_file(path: &str) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("{size} bytes are too many for a certificate or a key"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}
