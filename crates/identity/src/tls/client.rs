//! TLS of our clients: whom to trust when dialling a control plane.

use std::path::Path;
use std::sync::Arc;

use runtime::Fatal;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{certificates, certificates_of, in_time};

/// Whom a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// The authorities of this machine.
    System,
    /// The authorities, or the very certificates, in a PEM file.
    File(&'a Path),
    /// The same, PEM, and what it is called in messages.
    Pem(&'a [u8], &'a str),
    /// Anybody: the connection is encrypted, its other end unknown.
    Anybody,
}

/// A client's configuration without a certificate of its own. `alpn` names the protocols offered, best first.
///
/// # Errors
/// The file is missing or holds no certificate, or this machine has no authorities.
pub fn config(trust: Trust<'_>, alpn: &[&str]) -> Result<ClientConfig, Fatal> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::System => chained(system_roots()?, &provider)?,
        Trust::File(file) => named(certificates(file)?, &provider)?,
        Trust::Pem(pem, called) => named(certificates_of(pem, called)?, &provider)?,
        Trust::Anybody => Arc::new(Blind(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fatal::new("cannot use the TLS settings").caused_by(error))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(config)
}

fn named(
    trusted: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Fatal> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    Ok(Arc::new(Named { chained: chained(roots, provider)?, trusted }))
}

fn chained(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Fatal> {
    WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
        .build()
        .map_err(|error| Fatal::new("there is no authority to trust").caused_by(error))
}

fn system_roots() -> Result<RootCertStore, Fatal> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let remedy = "name a file with the authority of the control plane";
        return Err(Fatal::new("this machine has no certificate authorities").remedy(remedy));
    }
    Ok(roots)
}

/// Trusts what chains up to the file, and the certificates of the file themselves: the one that Kuma makes at its first
/// start says that it is an authority, and no chain may end in such a one.
#[derive(Debug)]
struct Named {
    chained: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.trusted.iter().any(|trusted| trusted == end_entity) {
            return self.chained.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        in_time(end_entity, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chained.supported_verify_schemes()
    }
}

/// Trusts every certificate (`tlsSkipVerify`); the other end still has to hold its key.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, IsCa};
    use rustls::CertificateError;

    use super::*;
    use crate::signing_key::to_pem;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A self-signed server certificate that says it is an authority, as Kuma's does; from then until a day later.
    fn kumas(from: SystemTime) -> (tempfile::NamedTempFile, CertificateDer<'static>) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (from.into(), (from + DAY).into());
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), to_pem("CERTIFICATE", certificate.der())).unwrap();
        (file, certificate.der().clone())
    }

    fn verify(file: &Path, certificate: &CertificateDer<'static>, name: &'static str) -> Result<(), Error> {
        let trusted = certificates(file).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let chained = chained(roots, &Arc::new(aws_lc_rs::default_provider())).unwrap();
        let name = ServerName::try_from(name).unwrap();
        Named { chained, trusted }.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_certificate_of_the_file_is_trusted_for_its_name_and_time() {
        let (file, certificate) = kumas(SystemTime::now() - Duration::from_secs(60));
        assert_eq!(verify(file.path(), &certificate, "localhost"), Ok(()));
        assert!(verify(file.path(), &certificate, "elsewhere").is_err());
        let (other, _) = kumas(SystemTime::now());
        assert!(verify(other.path(), &certificate, "localhost").is_err());
        for (from, fault) in [
            (SystemTime::now() - 2 * DAY, CertificateError::Expired),
            (SystemTime::now() + DAY, CertificateError::NotValidYet),
        ] {
            let (file, certificate) = kumas(from);
            assert_eq!(verify(file.path(), &certificate, "localhost"), Err(fault.into()));
        }
    }

    #[test]
    fn configurations_are_made_or_refused_in_one_line() {
        assert!(config(Trust::Anybody, &["h2"]).is_ok());
        let error = config(Trust::File(Path::new("/nope.pem")), &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the TLS certificate \"/nope.pem\""), "{error}");
    }
}
