//! The authority of a mesh at work: it reads the pair that a backend names, tells whom to trust, and issues certificates
//! to workloads (zone-dataplane 3.2, 3.3). Where the pair is made is [`crate::ca`].

mod leaf;
pub mod names;

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use kds_proto::kuma::mesh::v1alpha1::CertificateAuthorityBackend;
use kds_proto::kuma::system::v1alpha1::DataSource;
use kds_proto::kuma::system::v1alpha1::data_source::Type as Source;
use model::spec::mesh;
use rcgen::Issuer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use zeroize::Zeroizing;

use crate::signing_key::to_pem;

use leaf::PrivateKey;
pub use leaf::{DEFAULT_LIFETIME, IssueError, KeyType, Leaf, Request, Use};

/// Certificates in one file of authorities; more than these are a mistake.
const MAX_CERTIFICATES: usize = 64;

/// Why there is no authority to issue with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The backend's type or its settings.
    #[error("{0}")]
    Backend(String),
    /// A certificate or a key cannot be read where it should be.
    #[error("cannot read {what} from {place}: {reason}")]
    Unreadable {
        /// `the certificate` or `the key`.
        what: &'static str,
        /// Where it should be.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The data holds no certificate.
    #[error("{place} holds no certificate: {reason}")]
    NoCertificate {
        /// Where it was read from.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The data holds no private key.
    #[error("{place} holds no private key: {reason}")]
    NoKey {
        /// Where it was read from.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key are of different pairs.
    #[error(
        "the key in {key} does not belong to the certificate in {certificate}; store the key that the certificate was made with"
    )]
    NoPair {
        /// Where the certificate was read from.
        certificate: String,
        /// Where the key was read from.
        key: String,
    },
    /// The subject of the certificate has a form that we cannot write as the issuer of another.
    #[error("the subject {subject:?} of the certificate in {place} has parts that cannot be repeated; use one of each")]
    Subject {
        /// Where it was read from.
        place: String,
        /// The subject.
        subject: String,
    },
}

/// Reads what a data source names: the content of a secret of the mesh, or of a file.
pub type Load<'a> = &'a dyn Fn(&DataSource) -> Result<Vec<u8>, String>;

/// What signs for a mesh, or for a part of one.
pub struct Authority {
    trust: Bytes,
    issuer: Issuer<'static, PrivateKey>,
    expires: DateTime<Utc>,
}

/// Never the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority of one backend of a mesh: its two secrets (`builtin`), or what its `conf` names (`provided`).
    ///
    /// # Errors
    /// Why there is none yet, which a change of the secrets may mend.
    pub fn of(mesh: &str, backend: &CertificateAuthorityBackend, load: Load<'_>) -> Result<Self, AuthorityError> {
        let (certificate, key) = mesh::authority_sources(mesh, backend).map_err(AuthorityError::Backend)?;
        let (from, key_from) = (place(mesh, &certificate), place(mesh, &key));
        let read = |source: &DataSource, what, place: &str| {
            load(source).map_err(|reason| AuthorityError::Unreadable { what, place: place.to_owned(), reason })
        };
        let certificate = read(&certificate, "the certificate", &from)?;
        let key = Zeroizing::new(read(&key, "the key", &key_from)?);
        Self::read(&certificate, &from, &key, &key_from)
    }

    /// An authority out of two PEM texts; each place says where its text is from, for messages.
    ///
    /// # Errors
    /// One of them is something else, or they are no pair.
    pub fn read(certificate: &[u8], place: &str, key: &[u8], key_place: &str) -> Result<Self, AuthorityError> {
        let chain = certificates(certificate)
            .map_err(|reason| AuthorityError::NoCertificate { place: place.to_owned(), reason })?;
        let [own, ..] = chain.as_slice() else {
            return Err(AuthorityError::NoCertificate { place: place.to_owned(), reason: "it is empty".to_owned() });
        };
        let parsed = parse(own).map_err(|reason| AuthorityError::NoCertificate { place: place.to_owned(), reason })?;
        let key = private_key(key).map_err(|reason| AuthorityError::NoKey { place: key_place.to_owned(), reason })?;
        if rcgen::PublicKeyData::der_bytes(&key) != &*parsed.public_key().subject_public_key.data {
            return Err(AuthorityError::NoPair { certificate: place.to_owned(), key: key_place.to_owned() });
        }
        let odd = || AuthorityError::Subject { place: place.to_owned(), subject: parsed.subject().to_string() };
        if !is_repeatable(&parsed) {
            return Err(odd());
        }
        let issuer = Issuer::from_ca_cert_der(own, key).map_err(|_| odd())?;
        let expires =
            DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let trust: String = chain.iter().map(|der| to_pem("CERTIFICATE", der)).collect();
        Ok(Self { trust: trust.into(), issuer, expires })
    }

    /// Who is to be trusted for this authority, PEM: its certificate, and those that stood with it.
    pub fn trust(&self) -> &Bytes {
        &self.trust
    }

    /// When its own certificate expires.
    pub fn expires(&self) -> DateTime<Utc> {
        self.expires
    }

    /// A certificate with a new key.
    ///
    /// # Errors
    /// A name does not fit a certificate, or the cryptographic library failed.
    pub fn issue(&self, request: &Request, now: DateTime<Utc>) -> Result<Leaf, IssueError> {
        Leaf::issue(request, &self.issuer, now)
    }
}

/// The certificates of a PEM text, DER; whatever else is in there is left aside.
///
/// # Errors
/// A block is damaged, or there are too many.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CERTIFICATES + 1).collect();
    match chain {
        Ok(chain) if chain.len() > MAX_CERTIFICATES => Err(format!("it holds more than {MAX_CERTIFICATES}")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
    Ok(parsed)
}

fn private_key(pem: &[u8]) -> Result<PrivateKey, String> {
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    PrivateKey::read(&Zeroizing::new(der))
        .map_err(|_| "it has to be RSA of 2048 bits or more, ECDSA or Ed25519".to_owned())
}

/// The library writes one attribute of each type, each by itself.
fn is_repeatable(certificate: &X509Certificate<'_>) -> bool {
    let mut types = std::collections::BTreeSet::new();
    certificate.subject().iter_rdn().all(|part| {
        let mut attributes = part.iter();
        let first = attributes.next();
        attributes.next().is_none() && first.is_some_and(|first| types.insert(first.attr_type().to_id_string()))
    })
}

/// Where a data source leads, for people.
fn place(mesh: &str, source: &DataSource) -> String {
    match &source.r#type {
        Some(Source::Secret(name)) => format!("Secret {name:?} of mesh {mesh:?}"),
        Some(Source::File(path)) => format!("file {path:?}"),
        Some(Source::Inline(_) | Source::InlineString(_)) | None => format!("the settings of mesh {mesh:?}"),
    }
}

#[cfg(test)]
mod tests;
