//! Secrets, sent on the same stream (zone-dataplane 3.5).

use kds_proto::envoy::extensions::transport_sockets::tls::v3::secret::Type as SecretType;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret};

use super::tls;
use crate::names::secret;
use crate::plan::Plan;
use crate::resource::{Emitted, Type};

/// Identities and CAs.
pub fn resources(plan: &Plan) -> Vec<Emitted> {
    let identities = plan.secrets.identities.iter().map(|(mesh, identity)| Secret {
        name: secret::identity(plan.naming, mesh),
        r#type: Some(SecretType::TlsCertificate(tls::certificate(identity))),
    });
    let cas = plan.secrets.mesh_cas.iter().map(|(mesh, ca)| {
        let context = CertificateValidationContext {
            trusted_ca: Some(tls::inline(ca)),
            ..CertificateValidationContext::default()
        };
        Secret { name: secret::ca(plan.naming, mesh), r#type: Some(SecretType::ValidationContext(context)) }
    });
    identities.chain(cas).map(|secret| Emitted::new(Type::Secret, &secret.name, &secret)).collect()
}
