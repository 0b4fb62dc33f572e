//! Secrets, sent on the same stream (zone-dataplane 3.5, 3.8).

use kds_proto::envoy::config::core::v3::TypedExtensionConfig;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::secret::Type as SecretType;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, SpiffeCertValidatorConfig,
};

use super::{any, tls};
use crate::input::KeyPair;
use crate::names::secret;
use crate::plan::Plan;
use crate::resource::{Emitted, Type};

/// Name of Envoy's validator that knows an authority for each trust domain.
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";

/// Identities and CAs.
pub fn resources(plan: &Plan) -> Vec<Emitted> {
    let secrets = &plan.secrets;
    let workload = secrets.workload.iter().map(|(name, pair)| identity(name.clone(), pair));
    let identities = secrets.identities.iter().map(|(mesh, pair)| identity(secret::identity(plan.naming, mesh), pair));
    let cas = secrets.mesh_cas.iter().map(|(mesh, ca)| {
        let context = CertificateValidationContext {
            trusted_ca: Some(tls::inline(ca)),
            ..CertificateValidationContext::default()
        };
        Secret { name: secret::ca(plan.naming, mesh), r#type: Some(SecretType::ValidationContext(context)) }
    });
    let all = workload.chain(identities).chain(cas).chain(bundle(plan));
    all.map(|secret| Emitted::new(Type::Secret, &secret.name, &secret)).collect()
}

fn identity(name: String, pair: &KeyPair) -> Secret {
    Secret { name, r#type: Some(SecretType::TlsCertificate(tls::certificate(pair))) }
}

/// The authorities of every trust domain, by name; `None` without any.
fn bundle(plan: &Plan) -> Option<Secret> {
    let domain = |(name, cas): (&String, &Vec<u8>)| TrustDomain {
        name: name.clone(),
        trust_bundle: Some(tls::inline(cas)),
        ..TrustDomain::default()
    };
    let trust_domains: Vec<TrustDomain> = plan.trust.iter().map(domain).collect();
    if trust_domains.is_empty() {
        return None;
    }
    let validator = TypedExtensionConfig {
        name: VALIDATOR.to_owned(),
        typed_config: Some(any(&SpiffeCertValidatorConfig { trust_domains, ..Default::default() })),
    };
    let context = CertificateValidationContext {
        custom_validator_config: Some(validator),
        ..CertificateValidationContext::default()
    };
    Some(Secret { name: secret::TRUST_BUNDLE.to_owned(), r#type: Some(SecretType::ValidationContext(context)) })
}
