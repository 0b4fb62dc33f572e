//! How TLS of clients ends: with s2n, because a server name like `backend{mesh=default}` is none for rustls
//! (zone-dataplane 12.1).

use std::fmt;

use arc_swap::ArcSwapOption;
use s2n_tls::callbacks::VerifyHostNameCallback;
use s2n_tls::config::Config;
use s2n_tls::connection::Connection;
use s2n_tls::enums::{Blinding, ClientAuthType};
use s2n_tls::{connection, security};
use s2n_tls_tokio::TlsAcceptor;

use super::san::{self, San, Wanted};

/// Makes connections that are closed at once when the handshake fails: who is refused learns nothing from the time.
#[derive(Clone, Debug)]
pub struct Settings(Config);

impl connection::Builder for Settings {
    type Output = Connection;

    fn build_connection(&self, mode: s2n_tls::enums::Mode) -> Result<Connection, s2n_tls::error::Error> {
        let mut connection = self.0.build_connection(mode)?;
        connection.set_blinding(Blinding::SelfService)?;
        Ok(connection)
    }
}

/// How TLS ends, with a certificate that can be exchanged.
pub struct Downstream {
    /// The names of whom one is wanted in the client's certificate; none: any.
    wanted: Vec<Wanted>,
    /// Whether a client needs a certificate.
    required: bool,
    acceptor: ArcSwapOption<Settings>,
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream").field("wanted", &self.wanted).field("required", &self.required).finish()
    }
}

/// A certificate chain with its key, and the authorities of clients; PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material<'a> {
    /// Leaf first.
    pub certificate: &'a [u8],
    /// Its key.
    pub key: &'a [u8],
    /// Authorities; `None` when clients need no certificate.
    pub authorities: Option<&'a [u8]>,
}

impl Downstream {
    /// Without a certificate yet.
    pub fn new(wanted: Vec<Wanted>, required: bool) -> Self {
        Self { wanted, required, acceptor: ArcSwapOption::empty() }
    }

    /// Uses these from the next connection on; `None` ends service.
    ///
    /// # Errors
    /// They are not what they should be, and what was used before goes on to be.
    pub fn exchange(&self, material: Option<Material<'_>>) -> Result<(), String> {
        let Some(material) = material else {
            self.acceptor.store(None);
            return Ok(());
        };
        let config = self.config(&material).map_err(|error| format!("the certificate cannot be used: {error}"))?;
        self.acceptor.store(Some(Settings(config).into()));
        Ok(())
    }

    fn config(&self, material: &Material<'_>) -> Result<Config, s2n_tls::error::Error> {
        let mut builder = Config::builder();
        builder.with_system_certs(false)?;
        builder.set_security_policy(&security::DEFAULT_TLS13)?;
        builder.load_pem(material.certificate, material.key)?;
        if let Some(authorities) = material.authorities {
            builder.trust_pem(authorities)?;
        }
        let auth = if self.required { ClientAuthType::Required } else { ClientAuthType::None };
        builder.set_client_auth_type(auth)?;
        builder.set_verify_host_callback(Names(self.wanted.clone()))?;
        builder.build()
    }

    /// Accepts connections; `None` without a certificate.
    pub fn acceptor(&self) -> Option<TlsAcceptor<Settings>> {
        self.acceptor.load().as_ref().map(|settings| TlsAcceptor::new((**settings).clone()))
    }
}

/// Is asked for each name in a client's certificate.
struct Names(Vec<Wanted>);

impl VerifyHostNameCallback for Names {
    fn verify_host_name(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted.matches_uri(name) || wanted.matches_dns(name))
    }
}

/// The identities in the certificate that a client proved to be its own.
pub fn names(connection: &Connection) -> Vec<String> {
    let Ok(chain) = connection.peer_cert_chain() else { return Vec::new() };
    let Some(Ok(leaf)) = chain.iter().next() else { return Vec::new() };
    let names = leaf.der().map(san::of).unwrap_or_default();
    names.into_iter().filter_map(|name| if let San::Uri(uri) = name { Some(uri) } else { None }).collect()
}
