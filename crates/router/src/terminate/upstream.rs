//! TLS towards somebody outside the mesh (zone-dataplane 6.4): what is verified of them is said by the mesh.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::san::{self, Wanted};
use super::stream::Stream;
use crate::cluster::{Cluster, Host};

/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How TLS begins towards a host.
#[derive(Clone)]
pub struct Upstream {
    /// What it was made from, to know it again.
    origin: Origin,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Authorities, PEM; `None`: nobody is verified.
    pub authorities: Option<Vec<u8>>,
    /// Names of which the certificate must have one; none: any will do.
    pub wanted: Vec<Wanted>,
    /// Certificate and key to show, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The server name that is sent; empty: none.
    pub sni: String,
    /// Protocols that are offered.
    pub alpn: Vec<String>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({:?})", self.origin.sni)
    }
}

impl PartialEq for Upstream {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}

impl Upstream {
    /// A way to begin TLS.
    ///
    /// # Errors
    /// Authorities or the certificate cannot be read, or the name is none.
    pub fn new(origin: Origin) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        if let Some(pem) = &origin.authorities {
            let given: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let (added, _) =
                roots.add_parsable_certificates(given.map_err(|error| format!("its authorities: {error}"))?);
            if added == 0 {
                return Err("its authorities are no certificates".to_owned());
            }
        }
        let verifier = Verifier {
            roots,
            verifies: origin.authorities.is_some(),
            wanted: origin.wanted.clone(),
            provider: Arc::clone(&provider),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &origin.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
                let chain = chain.map_err(|error| format!("its certificate: {error}"))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("its key: {error}"))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| format!("its certificate: {error}"))?
            }
        };
        config.alpn_protocols = origin.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
        config.enable_sni = !origin.sni.is_empty();
        let name = if origin.sni.is_empty() { "unnamed".to_owned() } else { origin.sni.clone() };
        let name = ServerName::try_from(name).map_err(|_| format!("the server name {:?} is none", origin.sni))?;
        Ok(Self { origin, config: Arc::new(config), name })
    }

    async fn begin(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let begun = timeout(HANDSHAKE, connector.connect(self.name.clone(), stream)).await;
        Ok(Box::new(begun.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?))
    }
}

/// Connects to one host of a cluster, or to a second one when the first cannot be reached; with TLS where it wants that.
pub async fn connect(cluster: &Arc<Cluster>) -> Option<(Box<dyn Stream>, Arc<Host>)> {
    let (stream, host) = crate::connect::connect(cluster).await?;
    // It may be gone already, and then says so when it is used.
    let _ = stream.set_nodelay(true);
    let Some(tls) = host.tls() else { return Some((Box::new(stream), host)) };
    match tls.begin(stream).await {
        Ok(stream) => Some((stream, host)),
        Err(error) => {
            tracing::warn!(endpoint = %host.address(), cluster = cluster.name(), %error, "no TLS with the endpoint");
            None
        }
    }
}

#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    verifies: bool,
    wanted: Vec<Wanted>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.verifies {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let names = san::of(end_entity);
        if self.wanted.is_empty() || names.iter().any(|name| self.wanted.iter().any(|wanted| wanted.matches(name))) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::NotValidForName.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
