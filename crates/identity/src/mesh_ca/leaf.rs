//! A certificate of a workload, with a key of its own (zone-dataplane 3.3).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use pkcs8::LineEnding;
use pkcs8::der::SecretDocument;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroize;

use crate::signing_key::to_pem;

/// Lifetime of a workload's certificate when its backend names none.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(10);

/// What kind of key a workload gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256: made and used a hundred times faster than RSA.
    #[default]
    EcdsaP256,
    /// RSA of 2048 bits, Kuma's.
    Rsa2048,
}

impl FromStr for KeyType {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "ecdsa-p256" => Ok(Self::EcdsaP256),
            "rsa-2048" => Ok(Self::Rsa2048),
            _ => Err(format!("{word:?} is no type of key; use ecdsa-p256 or rsa-2048")),
        }
    }
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Both sides of connections in the mesh.
    Workload,
    /// The server's side, of Envoy's admin listener.
    Server,
    /// The client's side, towards Envoy's admin listener.
    Client,
}

/// What a certificate shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// URIs, in order.
    pub uris: Vec<String>,
    /// Names and addresses of hosts, in order.
    pub hosts: Vec<String>,
    /// What it is good for.
    pub r#use: Use,
    /// How long it lives from now on.
    pub lifetime: Duration,
    /// What kind of key it gets.
    pub key: KeyType,
}

impl Request {
    /// A certificate of a workload with these URIs.
    pub fn of_workload(uris: Vec<String>, lifetime: Duration, key: KeyType) -> Self {
        Self { uris, hosts: Vec::new(), r#use: Use::Workload, lifetime, key }
    }

    /// A certificate for one side of a connection to Envoy's admin listener.
    pub fn of_hosts(hosts: Vec<String>, r#use: Use, lifetime: Duration, key: KeyType) -> Self {
        Self { uris: Vec::new(), hosts, r#use, lifetime, key }
    }

    fn names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let uris = self.uris.iter().map(|uri| Ok(SanType::URI(uri.as_str().try_into()?)));
        let hosts = self.hosts.iter().map(|host| match host.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(host.as_str().try_into()?)),
        });
        uris.chain(hosts).collect()
    }

    fn usages(&self) -> (Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>) {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let mut usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let extended = match self.r#use {
            Use::Workload => {
                usages.push(KeyUsagePurpose::KeyAgreement);
                vec![ServerAuth, ClientAuth]
            }
            Use::Server => vec![ServerAuth],
            Use::Client => vec![ClientAuth],
        };
        (usages, extended)
    }
}

/// Why a certificate could not be issued.
#[derive(Debug, thiserror::Error)]
#[error("the certificate could not be made: {0}")]
pub struct IssueError(#[from] rcgen::Error);

/// A certificate and its key, PEM. The key's memory is cleared when the last copy is dropped.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate.
    pub certificate: Bytes,
    /// The key, PKCS#8.
    pub key: Bytes,
    /// When it was issued.
    pub issued: DateTime<Utc>,
    /// When it expires.
    pub expires: DateTime<Utc>,
}

/// Never the key.
impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("issued", &self.issued).field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Leaf {
    pub(super) fn issue(
        request: &Request,
        issuer: &Issuer<'static, PrivateKey>,
        now: DateTime<Utc>,
    ) -> Result<Self, IssueError> {
        let key = PrivateKey::generate(request.key)?;
        let expires = (now + request.lifetime).trunc_subsecs(0);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(uuid::Uuid::new_v4().into_bytes().to_vec().into());
        params.subject_alt_names = request.names()?;
        params.is_ca = IsCa::ExplicitNoCa;
        (params.key_usages, params.extended_key_usages) = request.usages();
        params.use_authority_key_identifier_extension = true;
        params.not_before = SystemTime::from(now - SKEW).into();
        params.not_after = SystemTime::from(expires).into();
        let certificate = params.signed_by(&key, issuer)?;
        let certificate = to_pem("CERTIFICATE", certificate.der()).into();
        Ok(Self { certificate, key: key.to_pem()?, issued: now, expires })
    }

    /// When it is to be replaced: after 80 % of its life.
    pub fn renewal(&self) -> DateTime<Utc> {
        self.issued + (self.expires - self.issued) * 4 / 5
    }
}

/// A key whose memory is cleared.
pub(super) struct PrivateKey(KeyPair);

impl PrivateKey {
    fn generate(r#type: KeyType) -> Result<Self, rcgen::Error> {
        let algorithm = match r#type {
            KeyType::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
        };
        KeyPair::generate_for(algorithm).map(Self)
    }

    /// A key of PKCS #1, SEC 1 or PKCS #8.
    pub(super) fn read(der: &PrivateKeyDer<'_>) -> Result<Self, rcgen::Error> {
        KeyPair::try_from(der).map(Self)
    }

    /// PKCS #8.
    fn to_pem(&self) -> Result<Bytes, rcgen::Error> {
        let document =
            SecretDocument::try_from(self.0.serialized_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let pem = document.to_pem("PRIVATE KEY", LineEnding::LF).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok(Bytes::from_owner(pem))
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
