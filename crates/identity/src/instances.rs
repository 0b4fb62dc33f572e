//! How the instances of a control plane know each other: each makes itself a certificate of the authority that they
//! share, and trusts that authority alone (kds-wire 5.8).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use model::Snapshot;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::first_start::Internal;
use crate::signing_key::{SigningKey, secret};

/// Lifetime of an instance's certificate, which ends with its process: ten years.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// Both ends of TLS between instances. Each end shows its certificate and asks for the other's.
#[derive(Clone, Debug)]
pub struct InstanceTls {
    /// For what listens.
    pub server: Arc<ServerConfig>,
    /// For what calls.
    pub client: ClientConfig,
}

impl InstanceTls {
    /// With a new certificate for this address; `None` as long as there is no authority.
    ///
    /// # Errors
    /// The authority cannot be read, or the address does not fit a certificate.
    pub fn issue(snapshot: &Snapshot, address: &str, now: DateTime<Utc>) -> Result<Option<Self>, String> {
        let Some(data) = secret(snapshot, &Internal::Instances.key()) else { return Ok(None) };
        let (authority, key) = parts(&data)?;
        let wrong = |error: rcgen::Error| error.to_string();
        let authority_key = KeyPair::try_from(SigningKey::parse(0, &key)?.private_der()).map_err(wrong)?;
        let issuer = Issuer::from_ca_cert_der(&authority, authority_key).map_err(wrong)?;

        let own_key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new([address.to_owned(), "localhost".to_owned()]).map_err(wrong)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, address);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = SystemTime::from(now - SKEW).into();
        params.not_after = SystemTime::from(now + LIFETIME).into();
        let own = params.signed_by(&own_key, &issuer).map_err(wrong)?;
        let own_key = PrivatePkcs8KeyDer::from(own_key.serialize_der());
        Self::with(authority, own.der().clone(), own_key).map(Some).map_err(|error| error.to_string())
    }

    fn with(
        authority: CertificateDer<'static>,
        own: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let (roots, provider) = (Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let private = || PrivateKeyDer::Pkcs8(key.clone_key());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![own.clone()], private())?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own], private())?;
        Ok(Self { server: Arc::new(server), client })
    }
}

/// Certificate and key of the authority; the key as PEM.
fn parts(data: &[u8]) -> Result<(CertificateDer<'static>, Vec<u8>), String> {
    let blocks = pem::parse_many(data).map_err(|error| error.to_string())?;
    let missing = |what: &str| format!("the secret of the authority holds no {what}");
    let certificate = blocks.iter().find(|block| block.tag() == "CERTIFICATE").ok_or_else(|| missing("certificate"))?;
    let key = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY")).ok_or_else(|| missing("private key"))?;
    Ok((certificate.contents().to_vec().into(), pem::encode(key).into_bytes()))
}

#[cfg(test)]
mod tests {
    use model::snapshot::Change;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    fn handshake(server: &InstanceTls, client: &InstanceTls, name: &str) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client.client.clone()), name)?;
        let mut server = ServerConnection::new(Arc::clone(&server.server))?;
        for _ in 0..4 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    #[test]
    fn instances_of_one_authority_know_each_other_and_nobody_else() {
        let now = Utc::now();
        let with_authority = || {
            let authority = Internal::Instances.missing(&Snapshot::empty(), now).unwrap().unwrap();
            Snapshot::empty().apply(1, [Change::Put(Arc::new(authority))])
        };
        let (ours, others) = (with_authority(), with_authority());
        let issue = |snapshot: &Snapshot, address: &str| InstanceTls::issue(snapshot, address, now).unwrap().unwrap();
        let (one, two, stranger) = (issue(&ours, "10.0.0.1"), issue(&ours, "10.0.0.2"), issue(&others, "10.0.0.1"));
        handshake(&one, &two, "10.0.0.1").unwrap();
        assert!(handshake(&one, &two, "10.0.0.9").is_err());
        assert!(handshake(&one, &stranger, "10.0.0.1").is_err());
        assert!(InstanceTls::issue(&Snapshot::empty(), "10.0.0.1", now).unwrap().is_none());
    }
}
