//! TLS of our servers: which certificates of clients are good (api-and-kumactl 2.8).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use runtime::Fatal;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{certificates, in_time};

/// Largest number of files that a folder may have.
const MAX_FILES: usize = 1000;

/// Whose certificates are good. A file holds authorities, or the very certificates of clients, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// A file of them.
    pub file: Option<PathBuf>,
    /// A folder of such files; those count whose names end in `.pem` or `.crt`.
    pub folder: Option<PathBuf>,
    /// Whether a client without certificate is turned away.
    pub required: bool,
}

impl Clients {
    fn read(&self) -> Result<Vec<CertificateDer<'static>>, Fatal> {
        let mut files: Vec<PathBuf> = self.file.iter().cloned().collect();
        if let Some(folder) = &self.folder {
            files.extend(files_of(folder)?);
        }
        files.iter().try_fold(Vec::new(), |mut all, file| {
            all.extend(certificates(file)?);
            Ok(all)
        })
    }
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Fatal> {
    let unreadable = |error| {
        Fatal::new(format!("cannot read the folder of client certificates \"{}\"", folder.display()))
            .caused_by(error)
            .remedy("check the path and the permissions")
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            continue;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("pem" | "crt") => files.push(path),
            _ => {
                tracing::info!(file = %path.display(), "no client certificate: its name ends neither in .pem nor in .crt")
            }
        }
    }
    if files.len() > MAX_FILES {
        let what = format!("\"{}\" holds more than {MAX_FILES} client certificates", folder.display());
        return Err(Fatal::new(what).remedy("sign them with an authority of your own and name that one"));
    }
    files.sort();
    Ok(files)
}

/// Judges the certificates that clients show.
#[derive(Debug)]
pub(super) struct Judge {
    clients: Clients,
    provider: Arc<CryptoProvider>,
    known: ArcSwap<Known>,
}

#[derive(Debug)]
struct Known {
    /// `None` as long as there are none: the library has no verifier that trusts nobody.
    chained: Option<Arc<dyn ClientCertVerifier>>,
    /// What the files hold. Kuma makes certificates of clients that sign themselves and say that they are authorities;
    /// no chain may end in such a one.
    named: Vec<CertificateDer<'static>>,
}

impl Judge {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate.
    pub(super) fn new(clients: Clients, provider: Arc<CryptoProvider>) -> Result<Self, Fatal> {
        let known = ArcSwap::from_pointee(Known::read(&clients, &provider)?);
        Ok(Self { clients, provider, known })
    }

    /// Reads the files again; new connections are judged by them.
    ///
    /// # Errors
    /// As [`Judge::new`]; what was known stays known.
    pub(super) fn reload(&self) -> Result<(), Fatal> {
        self.known.store(Arc::new(Known::read(&self.clients, &self.provider)?));
        Ok(())
    }
}

impl Known {
    fn read(clients: &Clients, provider: &Arc<CryptoProvider>) -> Result<Self, Fatal> {
        let named = clients.read()?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(named.iter().cloned());
        if roots.is_empty() {
            return Ok(Self { chained: None, named });
        }
        let unusable = |error| Fatal::new("cannot use the authorities of client certificates").caused_by(error);
        let chained = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider)).build();
        Ok(Self { chained: Some(chained.map_err(unusable)?), named })
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        self.clients.required
    }

    /// None, which asks for any: they may change while the server runs.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let known = self.known.load();
        if known.named.iter().any(|named| named == end_entity) {
            in_time(end_entity, now)?;
            for_clients(end_entity)?;
            return Ok(ClientCertVerified::assertion());
        }
        match &known.chained {
            Some(chained) => chained.verify_client_cert(end_entity, intermediates, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
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

/// A certificate that names its purposes has to name this one.
fn for_clients(certificate: &CertificateDer<'_>) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let purposes = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    match purposes {
        Some(purposes) if !purposes.value.client_auth && !purposes.value.any => {
            Err(CertificateError::InvalidPurpose.into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use rustls::crypto::aws_lc_rs;

    use super::*;
    use crate::signing_key::to_pem;

    const DAY: Duration = Duration::from_secs(86_400);

    fn params(purpose: ExtendedKeyUsagePurpose, from: SystemTime) -> CertificateParams {
        let mut params = CertificateParams::new(["jo".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        (params.not_before, params.not_after) = (from.into(), (from + DAY).into());
        params
    }

    /// As `kumactl generate tls-certificate --type client` of Kuma makes them.
    fn kumas(purpose: ExtendedKeyUsagePurpose, from: SystemTime) -> CertificateDer<'static> {
        let mut params = params(purpose, from);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap().der().clone();
            Self(Issuer::new(params, key), certificate)
        }

        fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
            let key = KeyPair::generate().unwrap();
            params(purpose, SystemTime::now() - DAY / 2).signed_by(&key, &self.0).unwrap().der().clone()
        }
    }

    fn judge(clients: Clients) -> Judge {
        Judge::new(clients, Arc::new(aws_lc_rs::default_provider())).unwrap()
    }

    fn is_good(judge: &Judge, certificate: &CertificateDer<'static>) -> bool {
        judge.verify_client_cert(certificate, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn authorities_and_certificates_of_the_folder_are_known_and_nobody_else() {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, certificate: &CertificateDer<'_>| {
            fs::write(folder.path().join(name), to_pem("CERTIFICATE", certificate)).unwrap();
        };
        let now = SystemTime::now() - DAY / 2;
        let (ours, other) = (Authority::new(), Authority::new());
        let (jo, past, server) = (kumas(ClientAuth, now), kumas(ClientAuth, now - 2 * DAY), kumas(ServerAuth, now));
        write("authority.pem", &ours.1);
        write("jo.crt", &jo);
        write("past.crt", &past);
        write("server.crt", &server);
        write("notes.txt", &other.1);
        let judge = judge(Clients { folder: Some(folder.path().into()), ..Clients::default() });
        assert!(is_good(&judge, &jo));
        assert!(is_good(&judge, &ours.issue(ClientAuth)));
        for (bad, what) in [
            (past, "expired"),
            (server, "of a server"),
            (ours.issue(ServerAuth), "issued to a server"),
            (other.issue(ClientAuth), "of an authority in a file with another ending"),
            (kumas(ClientAuth, now), "of nobody"),
        ] {
            assert!(!is_good(&judge, &bad), "{what}");
        }

        fs::remove_file(folder.path().join("jo.crt")).unwrap();
        assert!(is_good(&judge, &jo), "until it is told");
        judge.reload().unwrap();
        assert!(!is_good(&judge, &jo));
        write("broken.pem", &ours.1);
        fs::write(folder.path().join("broken.pem"), "nonsense").unwrap();
        assert!(judge.reload().unwrap_err().to_string().starts_with("no certificate in \""));
        assert!(is_good(&judge, &ours.issue(ClientAuth)), "what was known stays known");
    }

    #[test]
    fn without_any_file_nobody_is_known() {
        let judge = judge(Clients::default());
        assert!(!is_good(&judge, &kumas(ExtendedKeyUsagePurpose::ClientAuth, SystemTime::now())));
    }
}
