//! Services outside the mesh that a sidecar calls itself: ExternalServices, where no egress is asked for.

use std::net::IpAddr;

use bytes::Bytes;
use kds_proto::kuma::mesh::v1alpha1::ExternalService;
use kds_proto::kuma::system::v1alpha1::data_source::Type;
use kds_proto::kuma::system::v1alpha1::{DataSource, Secret};
use model::Kind;

use crate::destination::Tagged;
use crate::endpoint::{Endpoint, Locality};
use crate::input::KeyPair;
use crate::plan::{Assignment, ClusterTls, Context, Discovery, ExternalTls};
use crate::view::View;

/// Endpoints and TLS of a service that is called directly.
pub fn direct(context: &Context<'_>, tagged: &Tagged) -> (Discovery, Option<ClusterTls>) {
    let externals = context.view.external_services(&tagged.service);
    let fits = |external: &&std::sync::Arc<ExternalService>| {
        tagged.tags.iter().all(|(key, value)| external.tags.get(key) == Some(value))
    };
    let view = &context.view;
    let chosen = || externals.iter().filter(fits);
    let endpoints = chosen().filter_map(|external| endpoint(view, external)).collect();
    let tls: Vec<_> = chosen().filter_map(|external| Some((endpoint(view, external)?, tls(view, external)?))).collect();
    let tls = (!tls.is_empty()).then_some(ClusterTls::External(tls));
    (Discovery::Fixed(Assignment { endpoints, overprovisioning: None }), tls)
}

/// The endpoint of an ExternalService; `None` when its address is none.
pub fn endpoint(view: &View<'_>, external: &ExternalService) -> Option<Endpoint> {
    let (host, port) = host_port(external)?;
    let locality = external.tags.get(model::labels::ZONE).map(|zone| Locality {
        zone: zone.clone(),
        priority: u32::from(view.locality_aware() && zone != view.zone()),
        ..Locality::default()
    });
    Some(Endpoint { locality, ..Endpoint::new(&host, port, external.tags.clone(), 1) })
}

/// Whether an address is a name that must be resolved.
pub fn is_name(address: &str) -> bool {
    address.parse::<IpAddr>().is_err()
}

fn host_port(external: &ExternalService) -> Option<(String, u32)> {
    let address = &external.networking.as_ref()?.address;
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
}

/// TLS towards an ExternalService, if it asks for it.
pub fn tls(view: &View<'_>, external: &ExternalService) -> Option<ExternalTls> {
    let tls = external.networking.as_ref()?.tls.as_ref().filter(|tls| tls.enabled)?;
    let (host, _) = host_port(external)?;
    let sni = tls.server_name.clone().unwrap_or_else(|| host.clone());
    let sni = if is_name(&sni) { sni } else { String::new() };
    let identity = tls.client_cert.as_ref().zip(tls.client_key.as_ref());
    let identity = identity
        .and_then(|(certificate, key)| Some(KeyPair { certificate: load(view, certificate)?, key: load(view, key)? }));
    Some(ExternalTls {
        sni,
        host,
        skip_name: tls.skip_hostname_verification.unwrap_or(false),
        ca: tls.ca_cert.as_ref().and_then(|source| load(view, source)),
        identity,
        allow_renegotiation: tls.allow_renegotiation.unwrap_or(false),
        ..ExternalTls::default()
    })
}

/// The content of a source, as far as it is here: files are on hosts.
fn load(view: &View<'_>, source: &DataSource) -> Option<Bytes> {
    match source.r#type.as_ref()? {
        Type::Secret(name) => {
            let secret = view.get(Kind::Secret, name)?.spec.message::<Secret>().ok()?;
            secret.data.clone().map(Bytes::from)
        }
        Type::Inline(bytes) => Some(Bytes::from(bytes.clone())),
        Type::InlineString(text) => Some(Bytes::from(text.clone())),
        Type::File(_) => None,
    }
}
