//! What certificates of proxies say (zone-dataplane 3.3, 1.7).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use identity::mesh_ca::{DEFAULT_LIFETIME, KeyType, Request, Use, names};
use kds_proto::kuma::mesh::v1alpha1::{CertificateAuthorityBackend, Dataplane, ZoneEgress, ZoneIngress};
use model::labels::SERVICE_TAG;
use model::spec::dataplane::tag_sets;
use model::{Kind, Resource, duration};

/// The service that an egress is, in each mesh.
const EGRESS: &str = "zone-egress";
/// The name of a control plane at admin interfaces.
const CONTROL_PLANE: &str = "kuma-cp";
/// Lifetime of certificates of admin interfaces: ten years.
const ADMIN_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What the certificate of a proxy in a mesh says.
pub(super) fn of_proxy(
    proxy: &Resource,
    mesh: &str,
    backend: &CertificateAuthorityBackend,
    key: KeyType,
) -> Result<Request, String> {
    let tags = tags(proxy)?;
    let uris = names::of_tags(mesh, &tags).map_err(|error| error.to_string())?;
    Ok(Request::of_workload(uris, lifetime(backend)?, key))
}

/// What the certificate of a proxy's admin interface says; `None` for what is no proxy, or has no address.
pub(super) fn of_admin(proxy: &Resource) -> Option<Request> {
    let (address, advertised) = match proxy.kind() {
        Kind::Dataplane => {
            let networking = proxy.spec.message::<Dataplane>().ok()?.networking.clone()?;
            (networking.address, networking.advertised_address)
        }
        Kind::ZoneIngress => {
            let networking = proxy.spec.message::<ZoneIngress>().ok()?.networking.clone()?;
            (networking.address, networking.advertised_address)
        }
        Kind::ZoneEgress => (proxy.spec.message::<ZoneEgress>().ok()?.networking.clone()?.address, String::new()),
        _ => return None,
    };
    let mut hosts = vec![address];
    if !advertised.is_empty() && advertised != hosts[0] {
        hosts.push(advertised);
    }
    (!hosts[0].is_empty()).then(|| Request::of_hosts(hosts, Use::Server, ADMIN_LIFETIME, KeyType::default()))
}

/// What a control plane shows to admin interfaces.
pub(super) fn of_admin_client() -> Request {
    Request::of_hosts(vec![CONTROL_PLANE.to_owned()], Use::Client, ADMIN_LIFETIME, KeyType::default())
}

/// Every value of each tag of a proxy.
fn tags(proxy: &Resource) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if proxy.kind() == Kind::ZoneEgress {
        values.entry(SERVICE_TAG.to_owned()).or_default().insert(EGRESS.to_owned());
        return Ok(values);
    }
    let dataplane = proxy.spec.message::<Dataplane>().map_err(|error| error.to_string())?;
    for (tag, value) in tag_sets(&dataplane).flatten() {
        values.entry(tag.clone()).or_default().insert(value.clone());
    }
    Ok(values)
}

fn lifetime(backend: &CertificateAuthorityBackend) -> Result<Duration, String> {
    let rotation = backend.dp_cert.as_ref().and_then(|certificate| certificate.rotation.as_ref());
    match rotation.map(|rotation| rotation.expiration.as_str()) {
        None | Some("") => Ok(DEFAULT_LIFETIME),
        Some(text) => duration::parse_kuma(text)
            .map_err(|error| format!("dpCert.rotation.expiration of backend {:?}: {error}", backend.name)),
    }
}
