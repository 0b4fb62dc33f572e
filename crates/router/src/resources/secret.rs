//! Secrets, as far as chains use them.

use std::collections::HashMap;

use kds_proto::envoy::extensions::transport_sockets::tls::v3::Secret;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::terminal::{self, Secrets};

/// A secret, PEM.
pub(super) enum Kept {
    Identity(Vec<u8>, Vec<u8>),
    Authorities(Vec<u8>),
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identity(..) => "Identity",
            Self::Authorities(_) => "Authorities",
        })
    }
}

impl Kept {
    pub fn read(secret: &Secret) -> Result<Self, String> {
        match &secret.r#type {
            Some(Type::TlsCertificate(certificate)) => {
                let (certificate, key) = terminal::key_pair(certificate)?;
                Ok(Self::Identity(certificate, key))
            }
            Some(Type::ValidationContext(context)) => {
                let source = context.trusted_ca.as_ref().ok_or("it holds no authorities in PEM")?;
                Ok(Self::Authorities(terminal::bytes(source)?))
            }
            _ => Err("it is no certificate and no authorities".to_owned()),
        }
    }
}

impl Secrets for HashMap<String, Kept> {
    fn identity(&self, name: &str) -> Option<(&[u8], &[u8])> {
        match self.get(name) {
            Some(Kept::Identity(certificate, key)) => Some((certificate, key)),
            _ => None,
        }
    }

    fn authorities(&self, name: &str) -> Option<&[u8]> {
        match self.get(name) {
            Some(Kept::Authorities(pem)) => Some(pem),
            _ => None,
        }
    }
}
