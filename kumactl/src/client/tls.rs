//! Whom the client trusts, and how it proves who it is.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::io::{plain, read_file};
use crate::settings::ApiServer;

/// The TLS side of a server's settings.
pub(super) fn config(server: &ApiServer) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if server.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody(provider)))
    } else {
        builder.with_root_certificates(roots(server)?)
    };
    if server.client_cert_file.is_empty() || server.client_key_file.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&server.client_cert_file)?;
    let text = read(&server.client_key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("could not read the client key in {}: {error}", server.client_key_file))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client certificate {} does not fit its key: {error}", server.client_cert_file))
}

fn roots(server: &ApiServer) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if server.ca_cert_file.is_empty() {
        // The system's authorities matter for https alone, and then a missing one is told by the handshake.
        if server.url.is_empty() || server.url.starts_with("https:") {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    } else {
        for certificate in certificates(&server.ca_cert_file)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", server.ca_cert_file))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("could not read the certificate in {path}: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{path} holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    read_file(Path::new(path)).map_err(|error| format!("open {path}: {}", plain(&error)))
}

/// Takes any certificate, because the user asked for it with `skipVerify`.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
