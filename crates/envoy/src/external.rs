//! Services outside the mesh that a sidecar calls itself: ExternalServices, where no egress is asked for.

use std::net::IpAddr;

use bytes::Bytes;
use kds_proto::kuma::mesh::v1alpha1::ExternalService;
use kds_proto::kuma::system::v1alpha1::data_source::Type;
use kds_proto::kuma::system::v1alpha1::{DataSource, Secret};
use model::labels::ZONE;
use model::spec::MeshExternalService;
use model::spec::mesh_external_service::{self, VerificationMode};
use model::spec::tags::Tags;
use model::{Kind, Resource};

use crate::destination::Tagged;
use crate::endpoint::{Endpoint, Locality};
use crate::input::KeyPair;
use crate::plan::{Assignment, ClusterTls, Context, Discovery, ExternalTls};
use crate::policies::tls::Parameters;
use crate::view::{External, View};

/// Tag that tells apart endpoints with TLS of their own.
const NAME_TAG: &str = "kuma.io/external-service-name";

/// Endpoints and TLS of a service that is called directly.
pub fn direct(context: &Context<'_>, tagged: &Tagged) -> (Discovery, Option<ClusterTls>) {
    let view = &context.view;
    let mut externals = view.external_services(&tagged.service);
    externals.retain(|external| tagged.tags.iter().all(|(key, value)| external.spec.tags.get(key) == Some(value)));
    let endpoints: Vec<Endpoint> = externals.iter().filter_map(|external| endpoint(view, external)).collect();
    let tls: Vec<_> =
        externals.iter().filter_map(|external| Some((endpoint(view, external)?, tls(view, external)?))).collect();
    let tls = (!tls.is_empty()).then_some(ClusterTls::External(tls));
    (Discovery::Fixed(Assignment { endpoints, overprovisioning: None }), tls)
}

/// The endpoint of an ExternalService; `None` when its address is none.
pub fn endpoint(view: &View<'_>, external: &External) -> Option<Endpoint> {
    let (host, port) = host_port(&external.spec)?;
    let mut tags = external.spec.tags.clone();
    let locality = tags.get(ZONE).map(|zone| Locality {
        zone: zone.clone(),
        priority: u32::from(view.locality_aware() && zone != view.zone()),
        ..Locality::default()
    });
    if external.spec.networking.as_ref().and_then(|net| net.tls.as_ref()).is_some_and(|tls| tls.enabled) {
        tags.insert(NAME_TAG.to_owned(), external.name.clone());
    }
    Some(Endpoint { locality, ..Endpoint::new(&host, port, tags, 1) })
}

/// Endpoints of a MeshExternalService, and the TLS that all of them take.
pub fn of_resource(view: &View<'_>, resource: &Resource, system_ca: &str) -> (Vec<Endpoint>, Option<ExternalTls>) {
    let Ok(spec) = resource.spec.json::<MeshExternalService>() else { return (Vec::new(), None) };
    let tags: Tags = resource.meta.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let locality = tags.get(ZONE).map(|zone| Locality { zone: zone.clone(), ..Locality::default() });
    let endpoint = |endpoint: &mesh_external_service::Endpoint| Endpoint {
        locality: locality.clone(),
        ..Endpoint::new(&endpoint.address, u32::try_from(endpoint.port).unwrap_or_default(), tags.clone(), 1)
    };
    let endpoints: Vec<Endpoint> = spec.endpoints.iter().flatten().map(endpoint).collect();
    let tls = spec.tls.as_ref().filter(|tls| tls.enabled).zip(endpoints.first());
    let tls = tls.map(|(tls, first)| of_tls(view, tls, &first.address, system_ca));
    (endpoints, tls)
}

/// What is asked of TLS; each mode of verification leaves something out.
fn of_tls(view: &View<'_>, asked: &mesh_external_service::Tls, host: &str, system_ca: &str) -> ExternalTls {
    let own_name = if is_name(host) { host.to_owned() } else { String::new() };
    let mut tls = ExternalTls {
        sni: own_name.clone(),
        host: host.to_owned(),
        system_ca: system_ca.to_owned(),
        allow_renegotiation: asked.allow_renegotiation,
        parameters: Parameters::versions(asked.version.as_ref()),
        shared: true,
        ..ExternalTls::default()
    };
    let Some(verification) = &asked.verification else { return tls };
    let source = |source: &Option<model::spec::data_source::DataSource>| {
        source.as_ref().and_then(|source| load_newer(view, source))
    };
    tls.ca = source(&verification.ca_cert);
    let identity = source(&verification.client_cert).zip(source(&verification.client_key));
    tls.identity = identity.map(|(certificate, key)| KeyPair { certificate, key });
    if let Some(name) = verification.server_name.as_ref().filter(|name| !name.is_empty()) {
        tls.sni = name.clone();
    }
    let names = verification.subject_alt_names.iter().flatten();
    tls.names = names.map(|name| (name.r#type.clone(), name.value.clone())).collect();
    let mode = &verification.mode;
    if matches!(mode, VerificationMode::SkipSan | VerificationMode::SkipAll) {
        tls.sni = own_name;
        tls.names.clear();
        tls.skip_name = true;
    }
    if matches!(mode, VerificationMode::SkipCa | VerificationMode::SkipAll) {
        tls.ca = None;
        tls.system_ca.clear();
    }
    if *mode == VerificationMode::SkipAll {
        tls.identity = None;
    }
    tls
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
pub fn tls(view: &View<'_>, external: &External) -> Option<ExternalTls> {
    let tls = external.spec.networking.as_ref()?.tls.as_ref().filter(|tls| tls.enabled)?;
    let (host, _) = host_port(&external.spec)?;
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

/// The content of a newer source.
fn load_newer(view: &View<'_>, source: &model::spec::data_source::DataSource) -> Option<Bytes> {
    use base64::Engine;
    if let Some(name) = &source.secret {
        return load(view, &DataSource { r#type: Some(Type::Secret(name.clone())) });
    }
    if let Some(inline) = &source.inline {
        return base64::engine::general_purpose::STANDARD.decode(inline).ok().map(Bytes::from);
    }
    source.inline_string.clone().map(Bytes::from)
}
