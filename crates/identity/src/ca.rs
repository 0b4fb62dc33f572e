//! The builtin certificate authority of a mesh (zone-dataplane 3.2): made where the mesh is made, once, and stored as
//! two secrets of the mesh, from which every zone issues.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rsa::KeySize;
use chrono::{DateTime, Utc};
use kds_proto::kuma::mesh::v1alpha1::CertificateAuthorityBackend;
use model::resource::Key;
use model::snapshot::Snapshot;
use model::{Kind, Resource};
use prost_types::Struct;
use prost_types::value::Kind as Member;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SanType};

use crate::signing_key::{KeyError, SigningKey, to_pem, to_secret};

/// Lifetime when the backend names none: ten years.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(10);

/// Why an authority could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The lifetime cannot be read.
    #[error("caCert.expiration: {0}")]
    Expiration(#[from] model::duration::DurationError),
    /// The size of the key is not one that we make.
    #[error("caCert.RSAbits has to be 2048, 3072, 4096 or 8192, found {0}")]
    KeySize(u64),
    /// The key could not be made.
    #[error("failed to generate a Root CA cert for Mesh {mesh:?}: {cause}")]
    Key {
        /// The mesh.
        mesh: String,
        /// What is wrong.
        cause: KeyError,
    },
    /// The certificate could not be made, mostly since the mesh's name is no trust domain.
    #[error("failed to generate a Root CA cert for Mesh {mesh:?}: {cause}")]
    Certificate {
        /// The mesh.
        mesh: String,
        /// What is wrong.
        cause: rcgen::Error,
    },
}

/// The secret that holds the certificate of a backend's authority.
pub fn certificate_secret(mesh: &str, backend: &str) -> Key {
    Key::new(Kind::Secret, mesh, &format!("{mesh}.ca-builtin-cert-{backend}"))
}

/// The secret that holds its key.
pub fn key_secret(mesh: &str, backend: &str) -> Key {
    Key::new(Kind::Secret, mesh, &format!("{mesh}.ca-builtin-key-{backend}"))
}

/// The secrets to create for a builtin backend of a mesh; none when both are there.
///
/// # Errors
/// The backend's `conf` cannot be met, or the mesh's name does not fit a certificate.
pub fn missing_secrets(
    mesh: &str,
    backend: &CertificateAuthorityBackend,
    snapshot: &Snapshot,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, CaError> {
    let (certificate, key) = (certificate_secret(mesh, &backend.name), key_secret(mesh, &backend.name));
    if backend.r#type != "builtin" || (snapshot.get(&certificate).is_some() && snapshot.get(&key).is_some()) {
        return Ok(Vec::new());
    }
    let authority = Authority::generate(mesh, &Options::of(backend)?, now)?;
    Ok(vec![to_secret(certificate, authority.certificate_pem), to_secret(key, authority.key_pem)])
}

/// What a backend's `conf.caCert` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    bits: u64,
    lifetime: Duration,
}

impl Options {
    /// Reads `conf` of a builtin backend.
    ///
    /// # Errors
    /// The lifetime cannot be read.
    pub fn of(backend: &CertificateAuthorityBackend) -> Result<Self, CaError> {
        let member = |object: &Struct, name: &str| object.fields.get(name).and_then(|value| value.kind.clone());
        let mut options = Self { bits: 2048, lifetime: DEFAULT_LIFETIME };
        let Some(Member::StructValue(ca)) = backend.conf.as_ref().and_then(|conf| member(conf, "caCert")) else {
            return Ok(options);
        };
        if let Some(Member::NumberValue(bits)) = member(&ca, "RSAbits") {
            options.bits = bits as u64;
        }
        match member(&ca, "expiration") {
            Some(Member::StringValue(text)) if !text.is_empty() => {
                options.lifetime = model::duration::parse_kuma(&text)?;
            }
            _ => {}
        }
        Ok(options)
    }
}

/// A certificate authority, PEM.
#[derive(Clone)]
pub struct Authority {
    /// Its own certificate.
    pub certificate_pem: String,
    /// Its key, PKCS#1.
    pub key_pem: String,
}

impl Authority {
    /// A new authority with Kuma's profile.
    ///
    /// # Errors
    /// The key has an odd size, or the mesh's name does not fit a certificate.
    pub fn generate(mesh: &str, options: &Options, now: DateTime<Utc>) -> Result<Self, CaError> {
        let wrong = |cause: rcgen::Error| CaError::Certificate { mesh: mesh.to_owned(), cause };
        let size = key_size(options.bits).ok_or(CaError::KeySize(options.bits))?;
        let key = SigningKey::generate_of(size, 0).map_err(|cause| CaError::Key { mesh: mesh.to_owned(), cause })?;
        let pair = rcgen::KeyPair::try_from(key.private_der()).map_err(wrong)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(mesh);
        let uri = format!("spiffe://{mesh}").try_into().map_err(wrong)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.serial_number = Some(0_u64.into());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = SystemTime::from(now - SKEW).into();
        params.not_after = SystemTime::from(now + options.lifetime).into();
        let certificate = params.self_signed(&pair).map_err(wrong)?;
        Ok(Self { certificate_pem: to_pem("CERTIFICATE", certificate.der()), key_pem: key.private_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// Sizes that the library makes.
fn key_size(bits: u64) -> Option<KeySize> {
    Some(match bits {
        2048 => KeySize::Rsa2048,
        3072 => KeySize::Rsa3072,
        4096 => KeySize::Rsa4096,
        8192 => KeySize::Rsa8192,
        _ => return None,
    })
}

fn subject(mesh: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Kuma");
    name.push(DnType::OrganizationalUnitName, "Mesh");
    name.push(DnType::CommonName, mesh);
    name
}

#[cfg(test)]
mod tests {
    use model::snapshot::Change;
    use x509_parser::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn backend(conf: serde_json::Value) -> CertificateAuthorityBackend {
        let spec = serde_json::json!({"name": "ca-1", "type": "builtin", "conf": conf});
        kds_proto::json::from_value(spec, kds_proto::json::UnknownFields::Refused).unwrap()
    }

    #[test]
    fn an_authority_has_kumas_profile() {
        let secrets = missing_secrets("demo", &backend(serde_json::json!({})), &Snapshot::empty(), now()).unwrap();
        let names: Vec<_> = secrets.iter().map(|secret| secret.meta.key.name.to_string()).collect();
        assert_eq!(names, ["demo.ca-builtin-cert-ca-1", "demo.ca-builtin-key-ca-1"]);
        let data = |at: usize| {
            let message = secrets[at].spec.message::<kds_proto::kuma::system::v1alpha1::Secret>().unwrap();
            message.data.clone().unwrap()
        };
        let (pem, key) = (data(0), data(1));
        assert!(key.starts_with(b"-----BEGIN RSA PRIVATE KEY-----\n"));

        let (_, pem) = parse_x509_pem(&pem).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().to_string(), "O=Kuma, OU=Mesh, CN=demo");
        assert_eq!(certificate.raw_serial(), [0]);
        assert_eq!(certificate.validity().not_before.timestamp(), 1_800_000_000 - 10);
        assert_eq!(certificate.validity().not_after.timestamp(), 1_800_000_000 + 315_360_000);
        assert!(certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(*names, [GeneralName::URI("spiffe://demo")]);
        certificate.verify_signature(None).unwrap();
    }

    #[test]
    fn conf_is_met_or_refused() {
        let conf = serde_json::json!({"caCert": {"RSAbits": 3072, "expiration": "30d"}});
        let options = Options::of(&backend(conf)).unwrap();
        assert_eq!(options, Options { bits: 3072, lifetime: Duration::from_secs(30 * 24 * 3600) });
        let made = |conf| missing_secrets("demo", &backend(conf), &Snapshot::empty(), now()).unwrap_err().to_string();
        assert_eq!(
            made(serde_json::json!({"caCert": {"RSAbits": 512}})),
            "caCert.RSAbits has to be 2048, 3072, 4096 or 8192, found 512"
        );
        assert!(made(serde_json::json!({"caCert": {"expiration": "soon"}})).starts_with("caCert.expiration: "));
    }

    #[test]
    fn an_authority_is_made_once_and_for_builtin_backends_alone() {
        let put = |key: Key| Change::Put(to_secret(key, "x".to_owned()).into());
        let there = [certificate_secret("demo", "ca-1"), key_secret("demo", "ca-1")].map(put);
        let builtin = backend(serde_json::json!({}));
        assert!(missing_secrets("demo", &builtin, &Snapshot::empty().apply(1, there), now()).unwrap().is_empty());
        let provided = CertificateAuthorityBackend { r#type: "provided".into(), ..builtin };
        assert!(missing_secrets("demo", &provided, &Snapshot::empty(), now()).unwrap().is_empty());
    }
}
