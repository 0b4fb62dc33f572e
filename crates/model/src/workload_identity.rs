//! The names that a MeshIdentity gives to proxies: SPIFFE IDs (zone-dataplane 3.8).

use std::cmp::Reverse;
use std::sync::Arc;

use crate::Kind;
use crate::labels::{self, Labels};
use crate::mode::Environment;
use crate::resource::{Meta, Resource};
use crate::snapshot::Snapshot;
use crate::spec::MeshIdentity;
use crate::spec::condition::ConditionStatus;
use crate::spec::go_template::{RenderError, render_resource};
use crate::spec::mesh_identity::Status;

/// Trust domain without one of its own.
const TRUST_DOMAIN: &str = "{{ .Mesh }}.{{ .Zone }}.mesh.local";
/// Path on virtual machines without one of its own.
const UNIVERSAL_PATH: &str = "/workload/{{ .Workload }}";
/// Path on Kubernetes without one of its own.
const KUBERNETES_PATH: &str = "/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}";
/// Label of the service account on Kubernetes.
const SERVICE_ACCOUNT: &str = "k8s.kuma.io/service-account";

/// How far an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Proxies prove it.
    Ready,
    /// It is known and not proven yet.
    Partial,
    /// It does not count.
    NotReady,
}

/// A MeshIdentity of a mesh.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name in the store.
    pub name: Arc<str>,
    /// What it says.
    pub spec: Arc<MeshIdentity>,
    /// How far it is.
    pub readiness: Readiness,
}

/// Why a proxy has no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A template makes nothing.
    #[error("{0}")]
    Template(String),
    /// What it makes is no SPIFFE ID.
    #[error("{0:?} is no SPIFFE ID")]
    Invalid(String),
}

impl From<RenderError> for NameError {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Parse(fault) | RenderError::Execute(fault) => Self::Template(fault),
        }
    }
}

impl Identity {
    /// All of a mesh, by name.
    pub fn all(snapshot: &Snapshot, mesh: &str) -> Vec<Self> {
        snapshot.list_in(Kind::MeshIdentity, mesh).filter_map(|resource| Self::of(resource)).collect()
    }

    fn of(resource: &Resource) -> Option<Self> {
        let spec = resource.spec.json::<MeshIdentity>().ok()?;
        let status = resource.status.as_ref().and_then(|status| status.json::<Status>().ok());
        Some(Self { name: Arc::clone(&resource.meta.key.name), spec, readiness: readiness(status.as_deref()) })
    }

    /// Whether it is for proxies with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        let selector = self.spec.selector.as_ref().and_then(|selector| selector.dataplane.as_ref());
        selector.is_some_and(|selector| selector.matches(labels))
    }

    /// How many labels it asks for.
    fn specificity(&self) -> usize {
        let selector = self.spec.selector.as_ref().and_then(|selector| selector.dataplane.as_ref());
        selector.and_then(|selector| selector.match_labels.as_ref()).map_or(0, std::collections::BTreeMap::len)
    }

    /// Trust domain of a proxy.
    ///
    /// # Errors
    /// The template makes none.
    pub fn trust_domain(&self, proxy: &Meta, zone: &str) -> Result<String, NameError> {
        let template = self.spec.spiffe_id.as_ref().and_then(|id| id.trust_domain.as_deref()).unwrap_or(TRUST_DOMAIN);
        let zone = proxy.zone().filter(|zone| !zone.is_empty()).unwrap_or(zone);
        Ok(render_resource(template, &[("Mesh", &*proxy.key.mesh), ("Zone", zone)], &proxy.labels)?)
    }

    /// SPIFFE ID of a proxy.
    ///
    /// # Errors
    /// The template makes none, or none that may be one.
    pub fn spiffe_id(&self, proxy: &Meta, zone: &str, environment: Environment) -> Result<String, NameError> {
        let path = self.spec.spiffe_id.as_ref().and_then(|id| id.path.as_deref());
        let path = path.unwrap_or(match environment {
            Environment::Universal => UNIVERSAL_PATH,
            Environment::Kubernetes => KUBERNETES_PATH,
        });
        let domain = self.trust_domain(proxy, zone)?;
        let label = |key| proxy.labels.get(key).unwrap_or_default();
        let fields = [
            ("TrustDomain", domain.as_str()),
            ("Namespace", label(labels::NAMESPACE)),
            ("ServiceAccount", label(SERVICE_ACCOUNT)),
            ("Workload", label(labels::WORKLOAD)),
        ];
        let path = render_resource(path, &fields, &proxy.labels)?;
        let id = format!("spiffe://{domain}{path}");
        if is_spiffe_id(&domain, &path) { Ok(id) } else { Err(NameError::Invalid(id)) }
    }
}

/// The identity that proxies with these labels prove: the one that asks for most labels, of equal ones the first by name.
pub fn best<'a>(identities: &'a [Identity], labels: &Labels) -> Option<&'a Identity> {
    let matching = identities.iter().filter(|identity| identity.matches(labels));
    matching.max_by_key(|identity| (identity.specificity(), Reverse(Arc::clone(&identity.name))))
}

/// Whether a trust domain and a path make a SPIFFE ID (SPIFFE-ID 2).
fn is_spiffe_id(domain: &str, path: &str) -> bool {
    let common = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let segment = |segment: &str| {
        let fits = |byte: u8| common(byte) || byte.is_ascii_uppercase();
        !["", ".", ".."].contains(&segment) && segment.bytes().all(fits)
    };
    let domain = !domain.is_empty() && domain.bytes().all(common);
    domain && (path.is_empty() || path.strip_prefix('/').is_some_and(|path| path.split('/').all(segment)))
}

fn readiness(status: Option<&Status>) -> Readiness {
    let ready = status.into_iter().flat_map(|status| &status.conditions).find(|condition| condition.r#type == "Ready");
    match ready {
        Some(condition) if condition.status == ConditionStatus::True => Readiness::Ready,
        Some(condition) if condition.status == ConditionStatus::False && condition.reason == "PartiallyReady" => {
            Readiness::Partial
        }
        _ => Readiness::NotReady,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::{Key, Payload};

    fn identity(name: &str, spec: Value, ready: Value) -> Identity {
        let key = Key::new(Kind::MeshIdentity, "default", name);
        let mut resource = Resource::new(key, Labels::default(), Payload::from_bytes(spec.to_string()));
        resource.status = Some(Payload::from_bytes(json!({"conditions": [ready]}).to_string()));
        Identity::of(&resource).unwrap()
    }

    fn proxy(labels: &[(&str, &str)]) -> Meta {
        Meta::new(Key::new(Kind::Dataplane, "default", "dp"), labels.iter().copied().collect())
    }

    fn ready() -> Value {
        json!({"type": "Ready", "status": "True", "reason": "Ready", "message": ""})
    }

    #[test]
    fn names_come_from_templates_with_defaults() {
        let plain = identity("a", json!({}), ready());
        let meta = proxy(&[("kuma.io/workload", "web")]);
        let id = |identity: &Identity, meta: &Meta| identity.spiffe_id(meta, "east", Environment::Universal);
        assert_eq!(id(&plain, &meta).unwrap(), "spiffe://default.east.mesh.local/workload/web");
        let own = json!({"spiffeID": {"trustDomain": "{{ .Zone }}.example", "path": "/app/{{ label \"app\" }}"}});
        let own = identity("b", own, ready());
        assert_eq!(id(&own, &proxy(&[("app", "x"), ("kuma.io/zone", "west")])).unwrap(), "spiffe://west.example/app/x");
        assert!(matches!(id(&own, &meta), Err(NameError::Template(_))));
        assert!(matches!(id(&plain, &proxy(&[])), Err(NameError::Invalid(_))), "a path must not end in a slash");
    }

    #[test]
    fn the_closest_identity_is_proven() {
        let asking = |name: &str, labels: Value| {
            identity(name, json!({"selector": {"dataplane": {"matchLabels": labels}}}), ready())
        };
        let all = [
            asking("a", json!({})),
            asking("c", json!({"app": "x"})),
            asking("b", json!({"app": "x"})),
            identity("d", json!({"selector": {}}), ready()),
        ];
        let name = |labels: &[(&str, &str)]| best(&all, &proxy(labels).labels).map(|found| &*found.name);
        assert_eq!((name(&[("app", "x")]), name(&[])), (Some("b"), Some("a")));
        assert!(!all[3].matches(&Labels::default()), "without a selector it is for nobody");
    }

    #[test]
    fn an_identity_counts_once_it_is_ready() {
        let with = |status: &str, reason: &str| {
            let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": ""});
            identity("a", json!({}), condition).readiness
        };
        assert_eq!(with("True", "Ready"), Readiness::Ready);
        assert_eq!(with("False", "PartiallyReady"), Readiness::Partial);
        assert_eq!(with("False", "Failed"), Readiness::NotReady);
    }
}
