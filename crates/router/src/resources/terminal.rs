//! Filter chains in which TLS ends (zone-dataplane 6.4), and what TLS of either side is made from.

use std::time::Duration;

use kds_proto::Any;
use kds_proto::envoy::config::core::v3::data_source::Specifier;
use kds_proto::envoy::config::core::v3::transport_socket::ConfigType;
use kds_proto::envoy::config::core::v3::{DataSource, TransportSocket};
use kds_proto::envoy::config::route::v3::route::Action;
use kds_proto::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use kds_proto::envoy::config::route::v3::route_match::PathSpecifier;
use kds_proto::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, RouteMatch};
use kds_proto::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use kds_proto::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use kds_proto::envoy::extensions::filters::http::router::v3::Router;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use kds_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use kds_proto::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, TlsCertificate, UpstreamTlsContext,
};
use prost::{Message, Name};

use super::assignment::{Tags, lb_tags};
use super::chain::Leads;
use super::refusal::nothing_else;
use crate::terminate::access::Access;
use crate::terminate::upstream::{Origin, Upstream};
use crate::terminate::{Wanted, downstream::Material};

/// Largest file with certificates.
const LARGEST: u64 = 4 << 20;
/// For a whole answer when a route says nothing (Envoy's default).
const ANSWER: Duration = Duration::from_secs(15);

/// What a chain does with TLS that ends in it.
#[derive(Debug)]
pub(super) struct Spec {
    pub tls: Option<TlsSpec>,
    pub access: Access,
    pub forward: ForwardSpec,
}

#[derive(Debug)]
pub(super) enum ForwardSpec {
    Bytes(Leads),
    Requests(Vec<PathSpec>),
}

#[derive(Debug)]
pub(super) struct PathSpec {
    pub prefix: String,
    pub leads: Leads,
    pub rewrite_host: bool,
    pub timeout: Option<Duration>,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
pub(super) struct TlsSpec {
    identity: Identity,
    authorities: Authorities,
    pub wanted: Vec<Wanted>,
    pub required: bool,
}

#[derive(Clone, Debug)]
enum Identity {
    Secret(String),
    Inline(Vec<u8>, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Authorities {
    None,
    Secret(String),
    Inline(Vec<u8>),
}

/// What secrets say.
pub(super) trait Secrets {
    /// A certificate and its key.
    fn identity(&self, name: &str) -> Option<(&[u8], &[u8])>;
    /// Authorities.
    fn authorities(&self, name: &str) -> Option<&[u8]>;
}

impl TlsSpec {
    /// Whether it is made from a secret.
    pub fn uses(&self, secret: &str) -> bool {
        matches!(&self.identity, Identity::Secret(name) if name == secret)
            || matches!(&self.authorities, Authorities::Secret(name) if name == secret)
    }

    /// What it is made from; `None` while a secret is missing.
    pub fn material<'a>(&'a self, secrets: &'a impl Secrets) -> Option<Material<'a>> {
        let (certificate, key) = match &self.identity {
            Identity::Secret(name) => secrets.identity(name)?,
            Identity::Inline(certificate, key) => (certificate.as_slice(), key.as_slice()),
        };
        let authorities = match &self.authorities {
            Authorities::None => None,
            Authorities::Secret(name) => Some(secrets.authorities(name)?),
            Authorities::Inline(pem) => Some(pem.as_slice()),
        };
        Some(Material { certificate, key, authorities })
    }
}

/// TLS of a chain.
pub(super) fn downstream(socket: &TransportSocket) -> Result<TlsSpec, String> {
    let mut context: DownstreamTlsContext = unpack(socket)?;
    let required = context.require_client_certificate.take().unwrap_or(false);
    let mut common = context.common_tls_context.take().ok_or("TLS without a context")?;
    // Which protocol is spoken inside is found out there; sessions are not resumed.
    (context.session_ticket_keys_type, context.session_timeout, context.disable_stateful_session_resumption) =
        (None, None, false);
    nothing_else(&context)?;
    let identity = match (common.tls_certificates.as_slice(), common.tls_certificate_sds_secret_configs.as_slice()) {
        ([certificate], []) => {
            let (certificate, key) = key_pair(certificate)?;
            Identity::Inline(certificate, key)
        }
        ([], [secret]) => Identity::Secret(secret.name.clone()),
        _ => return Err("TLS must have one certificate".to_owned()),
    };
    let (authorities, wanted) = validation(common.validation_context_type.take())?;
    rest_of(common)?;
    if required && matches!(authorities, Authorities::None) {
        return Err("TLS asks for a certificate that nothing verifies".to_owned());
    }
    Ok(TlsSpec { identity, authorities, wanted, required })
}

/// TLS of a cluster. `http` names the protocol of requests there, if it is known.
pub(super) fn upstream(socket: &TransportSocket, http: Option<&str>) -> Result<Upstream, String> {
    let mut context: UpstreamTlsContext = unpack(socket)?;
    let mut common = context.common_tls_context.take().unwrap_or_default();
    let sni = std::mem::take(&mut context.sni);
    // Nobody renegotiates any more.
    context.allow_renegotiation = false;
    nothing_else(&context)?;
    let identity = match common.tls_certificates.as_slice() {
        [] => None,
        [certificate] => Some(key_pair(certificate)?),
        _ => return Err("TLS must have one certificate".to_owned()),
    };
    let (authorities, wanted) = validation(common.validation_context_type.take())?;
    let authorities = match authorities {
        Authorities::None => None,
        Authorities::Inline(pem) => Some(pem),
        Authorities::Secret(name) => {
            return Err(format!("not supported by this router: the secret {name:?} in a cluster"));
        }
    };
    let mut alpn = std::mem::take(&mut common.alpn_protocols);
    if alpn.is_empty() {
        alpn.extend(http.map(str::to_owned));
    }
    common.tls_certificates.clear();
    rest_of(common)?;
    Upstream::new(Origin { authorities, wanted, identity, sni, alpn })
}

fn rest_of(mut common: CommonTlsContext) -> Result<(), String> {
    (common.tls_certificates, common.tls_certificate_sds_secret_configs) = (Vec::new(), Vec::new());
    if common.tls_params.as_ref().is_some_and(|params| *params == Default::default()) {
        common.tls_params = None;
    }
    nothing_else(&common)
}

fn validation(context: Option<ValidationContextType>) -> Result<(Authorities, Vec<Wanted>), String> {
    match context {
        None => Ok((Authorities::None, Vec::new())),
        Some(ValidationContextType::ValidationContext(context)) => {
            let (pem, wanted) = checks(context)?;
            Ok((pem.map_or(Authorities::None, Authorities::Inline), wanted))
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            Ok((Authorities::Secret(secret.name), Vec::new()))
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let secret = combined.validation_context_sds_secret_config.ok_or("TLS without authorities")?;
            let (_, wanted) = checks(combined.default_validation_context.unwrap_or_default())?;
            Ok((Authorities::Secret(secret.name), wanted))
        }
        Some(_) => Err("not supported by this router: authorities from a provider".to_owned()),
    }
}

fn checks(mut context: CertificateValidationContext) -> Result<(Option<Vec<u8>>, Vec<Wanted>), String> {
    let pem = context.trusted_ca.take().map(|source| bytes(&source)).transpose()?;
    let wanted = context.match_typed_subject_alt_names.iter().map(Wanted::read).collect::<Result<Vec<_>, _>>()?;
    context.match_typed_subject_alt_names.clear();
    nothing_else(&context)?;
    Ok((pem, wanted))
}

/// A certificate and its key, PEM.
pub(super) fn key_pair(given: &TlsCertificate) -> Result<(Vec<u8>, Vec<u8>), String> {
    let certificate = given.certificate_chain.as_ref().ok_or("a certificate is missing")?;
    let key = given.private_key.as_ref().ok_or("the key of a certificate is missing")?;
    Ok((bytes(certificate)?, bytes(key)?))
}

/// What a source holds.
pub(super) fn bytes(source: &DataSource) -> Result<Vec<u8>, String> {
    use std::io::Read;
    match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::Filename(file)) => {
            let mut bytes = Vec::new();
            let read = std::fs::File::open(file).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
            read.map_err(|error| format!("cannot read {file:?}: {error}"))?;
            Ok(bytes)
        }
        _ => Err("not supported by this router: a source that is no bytes and no file".to_owned()),
    }
}

/// A connection manager: what it asks of clients, and where requests go.
pub(super) fn manager(config: &Any, access: &mut Access) -> Result<Vec<PathSpec>, String> {
    let mut manager: HttpConnectionManager = decode(config)?;
    let filters = std::mem::take(&mut manager.http_filters);
    let specifier = manager.route_specifier.take();
    manager.stat_prefix.clear();
    // Which addresses count as internal, and limits of connections, which are ours.
    (manager.codec_type, manager.internal_address_config, manager.common_http_protocol_options) = (0, None, None);
    nothing_else(&manager)?;
    for filter in &filters {
        http_filter(filter, access)?;
    }
    match specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => paths(routes),
        _ => Err("not supported by this router: routes that are not in place".to_owned()),
    }
}

fn http_filter(filter: &HttpFilter, access: &mut Access) -> Result<(), String> {
    let Some(http_filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
        return Err(format!("the filter {:?} has no typedConfig", filter.name));
    };
    let name = config.message_name();
    if name == HttpRbac::full_name() {
        let rbac: HttpRbac = decode(config)?;
        return access.add(rbac.rules.as_ref(), rbac.matcher.as_ref());
    }
    if name == Router::full_name() || name == GrpcStats::full_name() {
        return Ok(());
    }
    Err(format!("not supported by this router: the filter {:?}", filter.name))
}

fn paths(mut routes: RouteConfiguration) -> Result<Vec<PathSpec>, String> {
    let mut hosts = std::mem::take(&mut routes.virtual_hosts);
    routes.name.clear();
    (routes.validate_clusters, routes.request_headers_to_add) = (None, Vec::new());
    nothing_else(&routes)?;
    let (Some(mut host), true) = (hosts.pop(), hosts.is_empty()) else {
        return Err("not supported by this router: more than one virtual host".to_owned());
    };
    let given = std::mem::take(&mut host.routes);
    if host.domains != ["*"] {
        return Err("not supported by this router: a virtual host of some domains".to_owned());
    }
    (host.name, host.domains) = (String::new(), Vec::new());
    nothing_else(&host)?;
    given.into_iter().map(path).collect()
}

fn path(mut route: Route) -> Result<PathSpec, String> {
    let (matched, action) = (route.r#match.take().unwrap_or_default(), route.action.take());
    (route.name, route.metadata, route.decorator) = (String::new(), None, None);
    nothing_else(&route)?;
    let prefix = match matched.path_specifier {
        Some(PathSpecifier::Prefix(ref prefix)) => prefix.clone(),
        _ => return Err("not supported by this router: a path that is no prefix".to_owned()),
    };
    nothing_else(&RouteMatch { path_specifier: None, ..matched })?;
    let Some(Action::Route(mut action)) = action else {
        return Err("not supported by this router: a route that does not lead to a cluster".to_owned());
    };
    let (specifier, rewrite) = (action.cluster_specifier.take(), action.host_rewrite_specifier.take());
    let timeout = action.timeout.take().map_or(Ok(ANSWER), Duration::try_from).map_err(|error| error.to_string())?;
    if action.prefix_rewrite == prefix {
        action.prefix_rewrite.clear();
    }
    let tags: Tags = action.metadata_match.take().as_ref().map(lb_tags).unwrap_or_default();
    nothing_else::<RouteAction>(&action)?;
    let rewrite_host = match rewrite {
        None => false,
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) => auto,
        Some(_) => return Err("not supported by this router: a host that is rewritten to a text".to_owned()),
    };
    let Some(ClusterSpecifier::Cluster(cluster)) = specifier else {
        return Err("not supported by this router: a route that does not lead to one cluster".to_owned());
    };
    let timeout = (!timeout.is_zero()).then_some(timeout);
    Ok(PathSpec { prefix, leads: Leads { cluster, tags }, rewrite_host, timeout })
}

fn unpack<M: Message + Name + Default>(socket: &TransportSocket) -> Result<M, String> {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(config)) if config.message_name() == M::full_name() => decode(config),
        _ => Err(format!("not supported by this router: the transport socket {:?}", socket.name)),
    }
}

pub(super) fn decode<M: Message + Name + Default>(config: &Any) -> Result<M, String> {
    M::decode(&*config.value).map_err(|error| format!("{}: {error}", M::full_name()))
}
