//! TLS of our servers: the certificate that is made at first start, and configurations whose files can change under a
//! running server (api-and-kumactl 5.1).

pub mod client;
mod clients;
mod shown;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use runtime::life::Reload;
use runtime::tasks::{OnFailure, Task};
use runtime::{Fatal, Life};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ServerConfig, SupportedProtocolVersion};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

pub use self::clients::Clients;
use self::clients::Judge;

use crate::signing_key::{SigningKey, to_pem};

pub use shown::Shown;

/// Largest PEM file, in bytes.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// Lifetime of the certificate that is made at first start.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// Makes a self-signed certificate for these host names and addresses, unless both files are there and not empty.
/// Returns whether it made one. Files are readable for their owner alone.
///
/// # Errors
/// A file cannot be written, or a name does not fit a certificate.
pub fn ensure_certificate(certificate: &Path, key: &Path, hosts: &[String], now: DateTime<Utc>) -> Result<bool, Fatal> {
    let there = |file: &Path| fs::metadata(file).is_ok_and(|meta| meta.len() > 0);
    if there(certificate) && there(key) {
        return Ok(false);
    }
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Fatal::new("failed to auto-generate TLS certificate").caused_by(cause)
    };
    let (certificate_pem, key_pem) = self_signed(hosts, now).map_err(failed)?;
    let unwritable = |error: io::Error| {
        Fatal::new("failed to save auto-generated TLS cert and key into a working directory")
            .caused_by(error)
            .remedy("working directory could be changed using KUMA_GENERAL_WORK_DIR environment variable")
    };
    write_private(key, &key_pem).map_err(unwritable)?;
    write_private(certificate, &certificate_pem).map_err(unwritable)?;
    Ok(true)
}

/// Certificate and key, PEM.
fn self_signed(
    hosts: &[String],
    now: DateTime<Utc>,
) -> Result<(String, String), Box<dyn std::error::Error + Send + Sync>> {
    let key = SigningKey::generate(0)?;
    let mut params = CertificateParams::new(hosts)?;
    // Kuma's says that it is an authority, which strict clients refuse of a server.
    params.is_ca = IsCa::ExplicitNoCa;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = SystemTime::from(now - SKEW).into();
    params.not_after = SystemTime::from(now + LIFETIME).into();
    let certificate = params.self_signed(&rcgen::KeyPair::try_from(key.private_der())?)?;
    Ok((to_pem("CERTIFICATE", certificate.der()), key.private_pem()))
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(file)?.write_all(text.as_bytes())
}

/// Files and limits of one server.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Which certificates of clients are good; without it no client is asked for one.
    pub clients: Option<Clients>,
    /// `TLSv1_2`, `TLSv1_3` or empty for the lowest that is safe.
    pub min_version: String,
    /// The same, empty for the highest.
    pub max_version: String,
    /// IANA names of cipher suites; none for the library's.
    pub cipher_suites: Vec<String>,
}

/// A server's configuration, whose certificate can be exchanged while it serves.
#[derive(Clone, Debug)]
pub struct ServerTls {
    files: Arc<Files>,
    certificate: Arc<Exchangeable>,
    judge: Option<Arc<Judge>>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files. `alpn` names the protocols offered, best first: `h2`, `http/1.1`.
    ///
    /// # Errors
    /// A file is missing or holds something else, key and certificate do not belong together, or the limits exclude
    /// everything.
    pub fn load(files: Files, alpn: &[&str]) -> Result<Self, Fatal> {
        let provider = provider(&files.cipher_suites);
        let certificate = Arc::new(Exchangeable(ArcSwap::from_pointee(certified_key(&files, &provider)?)));
        let unusable = |error: rustls::Error| Fatal::new("cannot use the TLS settings").caused_by(error);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(&files)?)
            .map_err(unusable)?;
        let judge = files.clients.clone().map(|clients| Judge::new(clients, provider)).transpose()?.map(Arc::new);
        let builder = match &judge {
            None => builder.with_no_client_auth(),
            Some(judge) => builder.with_client_cert_verifier(Arc::<Judge>::clone(judge)),
        };
        let mut config = builder.with_cert_resolver(Arc::<Exchangeable>::clone(&certificate));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(Self { files: Arc::new(files), certificate, judge, config: Arc::new(config) })
    }

    /// The configuration, for good: a new certificate shows in it.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What the certificate of new connections says.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn shown(&self) -> Result<Shown, String> {
        let key = self.certificate.0.load();
        key.cert.first().map_or_else(|| Err("there is none".to_owned()), |certificate| Shown::parse(certificate))
    }

    /// The chain of new connections, PEM.
    pub fn shown_pem(&self) -> String {
        shown::chain_pem(&self.certificate.0.load().cert)
    }

    /// Reads certificate and key again, and which clients are good; new connections get them.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; the old certificate stays.
    pub fn reload(&self) -> Result<(), Fatal> {
        let key = certified_key(&self.files, self.config.crypto_provider())?;
        self.certificate.0.store(Arc::new(key));
        self.judge.as_ref().map_or(Ok(()), |judge| judge.reload())
    }

    /// Reloads in a task of this name and owner whenever the life says that files changed.
    pub fn keep_current(self, name: &'static str, owner: &'static str, life: &Life) {
        let task = Task { name, owner, on_failure: OnFailure::Stop };
        let reload = life.reload().clone();
        life.tasks().spawn(task, move || {
            let followed = self.clone().follow(reload.clone());
            async move {
                followed.await;
                Ok(())
            }
        });
    }

    /// Reloads whenever somebody says so, until the program ends. Files that cannot be used are reported and left.
    async fn follow(self, reload: Reload) {
        let mut notices = reload.subscribe();
        while notices.changed().await.is_ok() {
            let file = self.files.certificate.display();
            match self.reload() {
                Ok(()) => tracing::info!(%file, "certificate reloaded"),
                Err(error) => tracing::error!(%file, %error, "certificate not reloaded, the old one stays"),
            }
        }
    }
}

#[derive(Debug)]
struct Exchangeable(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Exchangeable {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn provider(cipher_suites: &[String]) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !cipher_suites.is_empty() {
        let iana = |name: &str| name.replacen("TLS13_", "TLS_", 1);
        let wanted = |name: &str| cipher_suites.iter().any(|suite| *suite == iana(name));
        provider.cipher_suites.retain(|suite| suite.suite().as_str().is_some_and(wanted));
    }
    Arc::new(provider)
}

fn versions(files: &Files) -> Result<Vec<&'static SupportedProtocolVersion>, Fatal> {
    let known = [("TLSv1_2", &rustls::version::TLS12), ("TLSv1_3", &rustls::version::TLS13)];
    let index = |name: &str, default: usize| match known.iter().position(|(known, _)| *known == name) {
        Some(at) => Ok(at),
        None if name.is_empty() => Ok(default),
        None => Err(Fatal::new(format!("unsupported tls version: {name}")).remedy("use TLSv1_2 or TLSv1_3")),
    };
    let (min, max) = (index(&files.min_version, 0)?, index(&files.max_version, known.len() - 1)?);
    if min > max {
        return Err(Fatal::new("the lowest TLS version is above the highest"));
    }
    Ok(known[min..=max].iter().map(|(_, version)| *version).collect())
}

fn certified_key(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, Fatal> {
    let chain = certificates(&files.certificate)?;
    let key_file = files.key.display();
    let no_key =
        |cause: rustls::pki_types::pem::Error| Fatal::new(format!("no private key in \"{key_file}\"")).caused_by(cause);
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key, "TLS key")?).map_err(no_key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let certificate = files.certificate.display();
        Fatal::new(format!("cannot use the certificate \"{certificate}\" with the key \"{key_file}\"")).caused_by(error)
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    certificates_of(&read(file, "TLS certificate")?, &format!("\"{}\"", file.display()))
}

fn certificates_of(pem: &[u8], called: &str) -> Result<Vec<CertificateDer<'static>>, Fatal> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let what = format!("no certificate in {called}");
    match chain {
        Ok(chain) if chain.is_empty() => Err(Fatal::new(what)),
        Ok(chain) => Ok(chain),
        Err(error) => Err(Fatal::new(what).caused_by(error)),
    }
}

fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (now, validity) = (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), parsed.validity());
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

pub(crate) fn read(file: &Path, what: &str) -> Result<Vec<u8>, Fatal> {
    let unreadable = |error: io::Error| {
        Fatal::new(format!("cannot read the {what} \"{}\"", file.display()))
            .caused_by(error)
            .remedy("check the path and the permissions")
    };
    let mut bytes = Vec::new();
    let size = fs::File::open(file).and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes));
    match size.map_err(unreadable)? {
        size if size as u64 > MAX_FILE_SIZE => {
            Err(Fatal::new(format!("\"{}\" is too large for a PEM file", file.display())))
        }
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;

    fn pair(folder: &Path, hosts: &[&str]) -> Files {
        let files = Files { certificate: folder.join("d/cp.crt"), key: folder.join("d/cp.key"), ..Files::default() };
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        assert!(ensure_certificate(&files.certificate, &files.key, &hosts, Utc::now()).unwrap());
        files
    }

    /// Handshakes in memory: the certificate that the client saw, or why there was none.
    fn handshake(server: &ServerTls, client: ClientConfig) -> Result<CertificateDer<'static>, rustls::Error> {
        let mut client = ClientConnection::new(client.into(), ServerName::try_from("localhost").unwrap())?;
        let mut server = ServerConnection::new(Arc::clone(server.config()))?;
        for _ in 0..4 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &*wire).unwrap();
            let accepted = server.process_new_packets().map(drop);
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &*wire).unwrap();
            accepted?;
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].clone())
    }

    fn authorities(file: &Path) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(file).unwrap());
        roots
    }

    fn client(files: &Files, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_provider(provider(&[]))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(authorities(&files.certificate))
            .with_no_client_auth()
    }

    const ALL: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

    #[test]
    fn the_first_start_makes_a_certificate_that_later_ones_keep() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), &["cp-1", "localhost", "10.0.0.7"]);
        let made = fs::read(&files.certificate).unwrap();
        assert!(!ensure_certificate(&files.certificate, &files.key, &[], Utc::now()).unwrap());
        assert_eq!(fs::read(&files.certificate).unwrap(), made);
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        handshake(&ServerTls::load(files.clone(), &[]).unwrap(), client(&files, ALL)).unwrap();
    }

    #[test]
    fn a_reload_shows_in_new_connections_and_bad_files_leave_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), &["localhost"]);
        let server = ServerTls::load(files.clone(), &["h2"]).unwrap();
        let first = handshake(&server, client(&files, ALL)).unwrap();

        fs::write(&files.certificate, "nonsense").unwrap();
        let error = server.reload().unwrap_err().to_string();
        assert_eq!(error, format!("no certificate in \"{}\"", files.certificate.display()));
        fs::remove_file(&files.key).unwrap();
        pair(folder.path(), &["localhost"]);
        server.reload().unwrap();
        let second = handshake(&server, client(&files, ALL)).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn limits_and_client_certificates_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), &["localhost"]);
        let newest = Files { min_version: "TLSv1_3".into(), ..files.clone() };
        let server = ServerTls::load(newest, &[]).unwrap();
        assert!(handshake(&server, client(&files, &[&rustls::version::TLS12])).is_err());
        assert!(handshake(&server, client(&files, ALL)).is_ok());

        for required in [true, false] {
            let clients = Clients { file: Some(files.certificate.clone()), folder: None, required };
            let asking = Files { clients: Some(clients), ..files.clone() };
            let server = ServerTls::load(asking, &[]).unwrap();
            assert_eq!(handshake(&server, client(&files, ALL)).is_err(), required);
        }
    }

    #[test]
    fn what_cannot_work_is_told_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let files = pair(folder.path(), &["localhost"]);
        let other = pair(&folder.path().join("other"), &["localhost"]);
        for (files, text) in [
            (
                Files { certificate: "/nope.crt".into(), ..files.clone() },
                "cannot read the TLS certificate \"/nope.crt\": No such file",
            ),
            (Files { key: files.certificate.clone(), ..files.clone() }, "no private key in"),
            (Files { key: other.key, ..files.clone() }, "cannot use the certificate"),
            (Files { min_version: "SSLv3".into(), ..files.clone() }, "unsupported tls version: SSLv3"),
            (
                Files { min_version: "TLSv1_3".into(), max_version: "TLSv1_2".into(), ..files },
                "the lowest TLS version is above",
            ),
        ] {
            let error = ServerTls::load(files, &[]).unwrap_err().to_string();
            assert!(error.starts_with(text) && error.lines().count() == 1, "{error}");
        }
    }
}
