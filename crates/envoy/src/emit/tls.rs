//! TLS of both sides (zone-dataplane 3.6).

use bytes::Bytes;
use kds_proto::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use kds_proto::envoy::config::core::v3::data_source::Specifier;
use kds_proto::envoy::config::core::v3::transport_socket::ConfigType;
use kds_proto::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, TransportSocket,
};
use kds_proto::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use kds_proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, SubjectAltNameMatcher,
    TlsCertificate, TlsParameters, UpstreamTlsContext,
};
use kds_proto::envoy::r#type::matcher::v3::StringMatcher;
use kds_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::spec::mesh_external_service::SanMatchType;
use model::spec::tls::Version;
use prost::{Message, Name};

use super::any;
use crate::input::KeyPair;
use crate::names::{Naming, secret};
use crate::plan::{ClusterTls, ExternalTls, Identity, Security};
use crate::policies::tls::Parameters;

/// Name of Envoy's TLS.
pub const SOCKET: &str = "envoy.transport_sockets.tls";
/// What clients of the mesh say that they speak inside TLS: a permissive inbound tells them by it.
pub const ALPN: &str = "kuma";

/// TLS of an inbound.
pub fn inbound(naming: Naming, mesh: &str, security: &Security) -> TransportSocket {
    let matchers = match &security.identity {
        Identity::Mesh { .. } => vec![uri(MatchPattern::Prefix(format!("spiffe://{mesh}/")))],
        Identity::Workload(_) => {
            security.domains.iter().map(|domain| uri(MatchPattern::Prefix(format!("spiffe://{domain}")))).collect()
        }
    };
    let mut common = of_mesh(naming, mesh, matchers, &security.identity);
    common.tls_params = parameters(&security.parameters);
    wrap(&DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    })
}

/// TLS of a cluster whose endpoints all take the same.
pub fn cluster(naming: Naming, tls: &ClusterTls) -> Option<TransportSocket> {
    let ClusterTls::Mesh { mesh, identities, sni, identity, parameters: asked } = tls else { return None };
    let exact = |identity: &String| uri(MatchPattern::Exact(identity.clone()));
    let matchers = if identities.is_empty() {
        vec![uri(MatchPattern::Prefix(format!("spiffe://{mesh}/")))]
    } else {
        identities.iter().map(exact).collect()
    };
    let mut common = of_mesh(naming, mesh, matchers, identity);
    common.alpn_protocols = vec![ALPN.to_owned()];
    common.tls_params = parameters(asked);
    Some(wrap(&UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: sni.clone(),
        ..UpstreamTlsContext::default()
    }))
}

/// TLS towards somebody outside the mesh.
pub fn external(tls: &ExternalTls) -> TransportSocket {
    let mut common = CommonTlsContext::default();
    let mut said = false;
    if let Some(identity) = &tls.identity {
        common.tls_certificates = vec![certificate(identity)];
        said = true;
    }
    let system = || Specifier::Filename(tls.system_ca.clone());
    let ca = match &tls.ca {
        Some(ca) => Some(Specifier::InlineBytes(ca.to_vec())),
        None => (!tls.system_ca.is_empty()).then(system),
    };
    if let Some(ca) = ca {
        common.tls_params = parameters(&tls.parameters);
        common.validation_context_type = Some(ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource { specifier: Some(ca), ..DataSource::default() }),
            match_typed_subject_alt_names: names(tls),
            ..CertificateValidationContext::default()
        }));
        said = true;
    }
    wrap(&UpstreamTlsContext {
        common_tls_context: said.then_some(common),
        sni: tls.sni.clone(),
        allow_renegotiation: tls.allow_renegotiation,
        ..UpstreamTlsContext::default()
    })
}

/// The names that the other side's certificate may have, as host names and as addresses.
fn names(tls: &ExternalTls) -> Vec<SubjectAltNameMatcher> {
    if tls.skip_name {
        return Vec::new();
    }
    let host = if tls.sni.is_empty() { &tls.host } else { &tls.sni };
    let both = [SanType::Dns, SanType::IpAddress];
    let own = both.map(|kind| san(kind, MatchPattern::Exact(host.clone())));
    let more = both.into_iter().flat_map(|kind| {
        tls.names.iter().map(move |(r#type, value)| match r#type {
            SanMatchType::Prefix => san(kind, MatchPattern::Prefix(value.clone())),
            SanMatchType::Exact | SanMatchType::Other(_) => san(kind, MatchPattern::Exact(value.clone())),
        })
    });
    own.into_iter().chain(more).collect()
}

/// TLS of the admin listener: the control plane, by a name and a CA of its own.
pub fn admin(identity: &KeyPair, ca: &Bytes, client: &str) -> TransportSocket {
    let validation = CertificateValidationContext {
        trusted_ca: Some(inline(ca)),
        match_typed_subject_alt_names: vec![san(SanType::Dns, MatchPattern::Exact(client.to_owned()))],
        ..CertificateValidationContext::default()
    };
    let common = CommonTlsContext {
        tls_certificates: vec![certificate(identity)],
        validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
        ..CommonTlsContext::default()
    };
    wrap(&DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(true),
        ..DownstreamTlsContext::default()
    })
}

/// A certificate and its key, in place.
pub fn certificate(identity: &KeyPair) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(inline(&identity.certificate)),
        private_key: Some(inline(&identity.key)),
        ..TlsCertificate::default()
    }
}

/// Bytes in place.
pub fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..DataSource::default() }
}

/// The identity of the proxy, and whom it trusts. Where a mesh lists trust domains one by one they say enough about
/// names.
fn of_mesh(naming: Naming, mesh: &str, matchers: Vec<SubjectAltNameMatcher>, identity: &Identity) -> CommonTlsContext {
    let own = || secret::identity(naming, mesh);
    let (own, ca, matchers) = match identity {
        Identity::Mesh { trust: false } => (own(), secret::ca(naming, mesh), matchers),
        Identity::Mesh { trust: true } => (own(), secret::TRUST_BUNDLE.to_owned(), Vec::new()),
        Identity::Workload(name) => (name.clone(), secret::TRUST_BUNDLE.to_owned(), matchers),
    };
    let validation = CertificateValidationContext {
        match_typed_subject_alt_names: matchers,
        ..CertificateValidationContext::default()
    };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(validation),
        validation_context_sds_secret_config: Some(by_ads(ca)),
        ..CombinedCertificateValidationContext::default()
    };
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![by_ads(own)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..CommonTlsContext::default()
    }
}

/// What is sent on the same stream as everything else.
pub fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn by_ads(name: String) -> SdsSecretConfig {
    SdsSecretConfig { name, sds_config: Some(ads()) }
}

fn uri(pattern: MatchPattern) -> SubjectAltNameMatcher {
    san(SanType::Uri, pattern)
}

fn san(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    let matcher = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    SubjectAltNameMatcher { san_type: kind.into(), matcher: Some(matcher), ..SubjectAltNameMatcher::default() }
}

fn parameters(asked: &Parameters) -> Option<TlsParameters> {
    let version = |version: Option<&Version>| match version {
        Some(Version::Tls10) => TlsProtocol::TlSv10,
        Some(Version::Tls11) => TlsProtocol::TlSv11,
        Some(Version::Tls12) => TlsProtocol::TlSv12,
        Some(Version::Tls13) => TlsProtocol::TlSv13,
        Some(Version::Auto | Version::Other(_)) | None => TlsProtocol::TlsAuto,
    };
    let versions = asked.versions.as_ref();
    (!asked.is_empty()).then(|| TlsParameters {
        tls_minimum_protocol_version: version(versions.map(|versions| &versions.min)).into(),
        tls_maximum_protocol_version: version(versions.map(|versions| &versions.max)).into(),
        cipher_suites: asked.ciphers.iter().map(|cipher| cipher.as_str().to_owned()).collect(),
        ..TlsParameters::default()
    })
}

fn wrap<M: Message + Name>(context: &M) -> TransportSocket {
    TransportSocket { name: SOCKET.to_owned(), config_type: Some(ConfigType::TypedConfig(any(context))) }
}
