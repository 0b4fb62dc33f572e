//! What a server's certificate says, for whoever tells clients how to verify it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::signing_key::to_pem;

/// The first certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Names and addresses that it is good for.
    pub hosts: BTreeSet<String>,
    /// Whether it may be what a client trusts: an authority, or a certificate that does not say what it is.
    pub may_be_trusted: bool,
    /// Whether it is signed with its own key.
    pub self_signed: bool,
    der: Vec<u8>,
}

impl Shown {
    /// Out of a PEM text.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub fn parse_pem(pem: &[u8]) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
        Self::parse(&der)
    }

    /// Out of an encoded certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let constraints = certificate.basic_constraints().ok().flatten();
        Ok(Self {
            hosts: names.filter_map(host).collect(),
            may_be_trusted: constraints.is_none_or(|constraints| constraints.value.ca),
            self_signed: certificate.issuer() == certificate.subject() && certificate.verify_signature(None).is_ok(),
            der: der.to_vec(),
        })
    }

    /// Whether both are the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
            let v6 = <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)));
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// A chain as one PEM text.
pub(super) fn chain_pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|certificate| to_pem("CERTIFICATE", certificate)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::super::{Files, ServerTls, ensure_certificate};
    use super::*;

    #[test]
    fn a_server_tells_what_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { certificate: folder.path().join("c"), key: folder.path().join("k"), ..Files::default() };
        let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        ensure_certificate(&files.certificate, &files.key, &hosts, Utc::now()).unwrap();
        let tls = ServerTls::load(files.clone(), &["h2"]).unwrap();
        let shown = tls.shown().unwrap();
        assert_eq!(shown.hosts, hosts.into_iter().collect());
        assert!(shown.self_signed && !shown.may_be_trusted);
        assert!(shown.is(&Shown::parse_pem(tls.shown_pem().as_bytes()).unwrap()));
        assert_eq!(std::fs::read_to_string(files.certificate).unwrap(), tls.shown_pem());
        assert!(Shown::parse_pem(b"nothing").is_err());
    }
}
