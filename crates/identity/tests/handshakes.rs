//! Workloads of one mesh talk, whatever version of TLS they speak and whatever keys they have; those of another mesh are
//! turned away (zone-dataplane 3.6).

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chrono::Utc;
use identity::ca;
use identity::mesh_ca::{Authority, KeyType, Leaf, Request, certificates, names};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

/// What clients of the mesh say that they speak.
const ALPN: &[u8] = b"kuma";

fn authority(mesh: &str) -> Authority {
    let backend = serde_json::json!({"name": "ca-1", "type": "builtin"});
    let backend = kds_proto::json::from_value(backend, kds_proto::json::UnknownFields::Refused).unwrap();
    let made = ca::Authority::generate(mesh, &ca::Options::of(&backend).unwrap(), Utc::now()).unwrap();
    Authority::read(made.certificate_pem.as_bytes(), "a", made.key_pem.as_bytes(), "b").unwrap()
}

static MESHES: LazyLock<[Authority; 2]> = LazyLock::new(|| ["default", "other"].map(authority));

fn leaf(authority: &Authority, mesh: &str, service: &str, key: KeyType) -> Leaf {
    let tags = [("kuma.io/service".to_owned(), [service.to_owned()].into())].into();
    let lifetime = Duration::from_secs(3600);
    let request = Request::of_workload(names::of_tags(mesh, &tags).unwrap(), lifetime, key);
    authority.issue(&request, Utc::now()).unwrap()
}

fn pair(leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (certificates(&leaf.certificate).unwrap(), PrivateKeyDer::from_pem_slice(&leaf.key).unwrap())
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    certificates(authority.trust()).unwrap().into_iter().for_each(|root| roots.add(root).unwrap());
    Arc::new(roots)
}

/// Takes servers whose certificate is of the mesh's authority and has a name that begins so.
#[derive(Debug)]
struct OfMesh {
    roots: Arc<RootCertStore>,
    prefix: &'static str,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for OfMesh {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(end_entity).unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        let fits = |name: &x509_parser::extensions::GeneralName<'_>| matches!(name, x509_parser::extensions::GeneralName::URI(uri) if uri.starts_with(self.prefix));
        match names.iter().any(fits) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn server(leaf: &Leaf, trusted: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(trusted), Arc::clone(&provider)).build().unwrap();
    let (chain, key) = pair(leaf);
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12, &TLS13]).unwrap();
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

fn client(
    leaf: &Leaf,
    trusted: &Authority,
    prefix: &'static str,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let provider = Arc::new(default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier = OfMesh { roots: roots(trusted), prefix, algorithms };
    let (chain, key) = pair(leaf);
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = builder.with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

/// Handshakes in memory: the version and the protocol that both agreed on.
fn handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Result<(ProtocolVersion, Vec<u8>), Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from("backend.mesh").unwrap())?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..4 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &*wire).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &*wire).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client.protocol_version().unwrap(), client.alpn_protocol().unwrap_or_default().to_vec()))
}

/// DP-21: leaves of two zones have one root. Both versions of TLS, both types of keys, on either side.
#[test]
fn workloads_of_a_mesh_talk() {
    let [mesh, _] = &*MESHES;
    for (version, is) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for (ours, theirs) in [(KeyType::EcdsaP256, KeyType::Rsa2048), (KeyType::Rsa2048, KeyType::EcdsaP256)] {
            let backend = leaf(mesh, "default", "backend", ours);
            let web = leaf(mesh, "default", "web", theirs);
            let agreed = handshake(server(&backend, mesh), client(&web, mesh, "spiffe://default/", version)).unwrap();
            assert_eq!(agreed, (is, ALPN.to_vec()), "{ours:?} {theirs:?}");
        }
    }
}

/// DP-22, DP-23.
#[test]
fn workloads_of_another_mesh_are_refused_by_either_side() {
    let [mesh, other] = &*MESHES;
    let backend = leaf(mesh, "default", "backend", KeyType::EcdsaP256);
    let web = leaf(mesh, "default", "web", KeyType::EcdsaP256);
    let stranger = leaf(other, "other", "web", KeyType::EcdsaP256);
    for version in [&TLS12, &TLS13] {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let refused = handshake(server(&backend, mesh), client(&stranger, mesh, "spiffe://default/", version));
        assert_eq!(refused.unwrap_err(), unknown, "the server takes no other authority");
        let refused = handshake(server(&stranger, mesh), client(&web, mesh, "spiffe://default/", version));
        assert_eq!(refused.unwrap_err(), unknown, "nor does the client");
        let refused = handshake(server(&backend, mesh), client(&web, mesh, "spiffe://default/api", version));
        assert_eq!(refused.unwrap_err(), Error::InvalidCertificate(CertificateError::NotValidForName));
    }
}
