//! Keys that sign tokens: where they lie, how they are made and read (zone-dataplane 2.2).

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use kds_proto::kuma::system::v1alpha1::Secret;
use model::{Key, Kind, Labels, Payload, Resource, Snapshot};

/// What a key's tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data plane proxies of a mesh.
    Dataplane {
        /// The mesh.
        mesh: String,
    },
    /// Proxies and control planes of zones.
    Zone,
    /// Users of the API.
    User,
}

impl Purpose {
    fn prefix(&self) -> String {
        match self {
            Self::Dataplane { mesh } => format!("dataplane-token-signing-key-{mesh}"),
            Self::Zone => "zone-token-signing-key".to_owned(),
            Self::User => "user-token-signing-key".to_owned(),
        }
    }

    /// Name of the key's secret; the key of serial 0 has no suffix.
    pub fn key(&self, serial: u64) -> Key {
        let name = if serial == 0 { self.prefix() } else { format!("{}-{serial}", self.prefix()) };
        self.secret(&name)
    }

    /// Name of the secret that a federated zone knows the key's public half by; only zone keys have one.
    pub fn public_key(&self, serial: u64) -> Option<Key> {
        let name = format!("zone-token-signing-public-key-{serial}");
        (*self == Self::Zone).then(|| self.secret(&name))
    }

    /// Name of the secret with the identifiers of revoked tokens; always a global one.
    pub fn revocations(&self) -> Key {
        let name = match self {
            Self::Dataplane { mesh } => format!("dataplane-token-revocations-{mesh}"),
            Self::Zone => "zone-token-revocations".to_owned(),
            Self::User => "user-token-revocations".to_owned(),
        };
        Key::global(Kind::GlobalSecret, &name)
    }

    fn secret(&self, name: &str) -> Key {
        match self {
            Self::Dataplane { mesh } => Key::new(Kind::Secret, mesh, name),
            Self::Zone | Self::User => Key::global(Kind::GlobalSecret, name),
        }
    }
}

/// Why there is no key to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No secret has it.
    #[error(
        "there is no signing key with KID {serial}. {} is not found. If signing key was rotated, regenerate the token",
        missing(.key)
    )]
    Missing {
        /// Serial number of the key.
        serial: u64,
        /// Where it was looked for.
        key: Key,
    },
    /// The secret holds no RSA key.
    #[error("{key} holds no RSA key in PEM or DER: {reason}")]
    Unreadable {
        /// The secret.
        key: Key,
        /// What is wrong.
        reason: String,
    },
    /// The system could not make one.
    #[error("a key could not be made: {0}")]
    Generation(String),
}

fn missing(Key { kind, mesh, name }: &Key) -> String {
    let place = if mesh.is_empty() { String::new() } else { format!(" in mesh {mesh:?}") };
    format!("{kind} of name {name:?}{place}")
}

/// A private key and its serial number.
pub struct SigningKey {
    serial: u64,
    /// `RSAPrivateKey` of RFC 8017.
    pkcs1: Vec<u8>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("serial", &self.serial).finish_non_exhaustive()
    }
}

const PRIVATE: &str = "RSA PRIVATE KEY";
const PUBLIC: &str = "RSA PUBLIC KEY";

impl SigningKey {
    /// A new RSA key of 2048 bits. Takes a good part of a second; keep it off a runtime's threads.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn generate(serial: u64) -> Result<Self, KeyError> {
        Self::generate_of(KeySize::Rsa2048, serial)
    }

    pub(crate) fn generate_of(size: KeySize, serial: u64) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Generation("the cryptographic library refused".to_owned());
        let pair = KeyPair::generate(size).map_err(failed)?;
        let pkcs8 = pair.as_der().map_err(failed)?;
        let pkcs1 = pkcs1_of(pkcs8.as_ref()).map_err(KeyError::Generation)?;
        Ok(Self { serial, pkcs1 })
    }

    /// The key in a file or secret: PEM (`RSA PRIVATE KEY`, `PRIVATE KEY`) or bare PKCS#1.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(serial: u64, data: &[u8]) -> Result<Self, String> {
        let pkcs1 = match pem::parse(data) {
            Ok(block) if block.tag() == PRIVATE => block.into_contents(),
            Ok(block) if block.tag() == "PRIVATE KEY" => pkcs1_of(block.contents())?,
            Ok(block) => return Err(format!("a PEM block {:?} is no private key", block.tag())),
            Err(_) => data.to_vec(),
        };
        pair_of(&pkcs1)?;
        Ok(Self { serial, pkcs1 })
    }

    /// The newest key for a purpose.
    ///
    /// # Errors
    /// There is none, or it does not parse.
    pub fn newest(snapshot: &Snapshot, purpose: &Purpose) -> Result<Self, KeyError> {
        let serial = serials(snapshot, purpose).max().unwrap_or(1);
        let key = purpose.key(serial);
        let data = secret(snapshot, &key).ok_or_else(|| KeyError::Missing { serial, key: key.clone() })?;
        Self::parse(serial, &data).map_err(|reason| KeyError::Unreadable { key, reason })
    }

    /// Serial number of the key that follows the newest.
    pub fn next_serial(snapshot: &Snapshot, purpose: &Purpose) -> u64 {
        serials(snapshot, purpose).max().map_or(1, |newest| newest + 1)
    }

    /// Serial number, the `kid` of tokens that it signs.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// `RSA PRIVATE KEY`.
    pub fn private_pem(&self) -> String {
        to_pem(PRIVATE, &self.pkcs1)
    }

    /// `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// The key is damaged.
    pub fn public_pem(&self) -> Result<String, String> {
        Ok(to_pem(PUBLIC, &self.public_der()?))
    }

    /// The secret that keeps it.
    pub fn to_secret(&self, purpose: &Purpose) -> Resource {
        to_secret(purpose.key(self.serial), self.private_pem())
    }

    pub(crate) fn private_der(&self) -> &[u8] {
        &self.pkcs1
    }

    pub(crate) fn public_der(&self) -> Result<Vec<u8>, String> {
        Ok(pair_of(&self.pkcs1)?.public_key().as_ref().to_vec())
    }
}

/// A secret that is not stored yet.
pub(crate) fn to_secret(key: Key, data: String) -> Resource {
    let data = Secret { data: Some(data.into_bytes()) };
    Resource::new(key, Labels::default(), Payload::from_message(&data))
}

/// PEM with the line ends that everybody reads.
pub(crate) fn to_pem(tag: &str, der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(tag, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

/// Content of a secret.
pub(crate) fn secret(snapshot: &Snapshot, key: &Key) -> Option<Vec<u8>> {
    snapshot.get(key)?.spec.message::<Secret>().ok()?.data.clone()
}

/// `RSAPublicKey` of a PEM block, for those who have only that half.
pub(crate) fn parse_public(data: &[u8]) -> Result<Vec<u8>, String> {
    let block = pem::parse(data).map_err(|error| error.to_string())?;
    if block.tag() == PUBLIC {
        Ok(block.into_contents())
    } else {
        Err(format!("a PEM block {:?} is no public key", block.tag()))
    }
}

fn serials(snapshot: &Snapshot, purpose: &Purpose) -> impl Iterator<Item = u64> {
    let first = purpose.key(0);
    let prefix = format!("{}-", first.name);
    let secrets = snapshot.list_in(first.kind, &first.mesh).map(|resource| resource.meta.key.name.to_string());
    let serials: Vec<u64> = secrets
        .filter_map(|name| if *name == *first.name { Some(0) } else { name.strip_prefix(&prefix)?.parse().ok() })
        .collect();
    serials.into_iter()
}

fn pair_of(pkcs1: &[u8]) -> Result<KeyPair, String> {
    KeyPair::from_der(pkcs1).map_err(|error| error.to_string())
}

/// The PKCS#1 key inside a PKCS#8 envelope.
fn pkcs1_of(pkcs8: &[u8]) -> Result<Vec<u8>, String> {
    let info = pkcs8::PrivateKeyInfo::try_from(pkcs8).map_err(|error| error.to_string())?;
    Ok(info.private_key.to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::snapshot::Change;

    use super::*;

    fn snapshot(keys: &[Key]) -> Snapshot {
        let put = |key: &Key| {
            let data = Secret { data: Some(b"x".to_vec()) };
            Change::Put(Arc::new(Resource::new(key.clone(), Labels::default(), Payload::from_message(&data))))
        };
        Snapshot::empty().apply(1, keys.iter().map(put))
    }

    #[test]
    fn a_key_survives_its_pem() {
        let key = SigningKey::generate(1).unwrap();
        let pem = key.private_pem();
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        let again = SigningKey::parse(1, pem.as_bytes()).unwrap();
        assert_eq!(again.public_pem().unwrap(), key.public_pem().unwrap());
        assert_eq!(parse_public(key.public_pem().unwrap().as_bytes()).unwrap(), key.public_der().unwrap());
        assert!(!format!("{key:?}").contains("pkcs1"));
    }

    #[test]
    fn the_highest_number_is_the_newest() {
        let purpose = Purpose::Zone;
        let some =
            snapshot(&[purpose.key(2), purpose.key(10), Key::global(Kind::GlobalSecret, "zone-token-signing-key-x")]);
        assert_eq!(SigningKey::next_serial(&some, &purpose), 11);
        assert_eq!(SigningKey::next_serial(&snapshot(&[]), &purpose), 1);
        assert!(matches!(SigningKey::newest(&some, &purpose), Err(KeyError::Unreadable { .. })));
    }

    #[test]
    fn a_missing_key_is_named_with_its_place() {
        let error = SigningKey::newest(&snapshot(&[]), &Purpose::Dataplane { mesh: "nope".into() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"there is no signing key with KID 1. Secret of name "dataplane-token-signing-key-nope-1" in mesh "nope" is not found. If signing key was rotated, regenerate the token"#
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for junk in [&b"junk"[..], b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(SigningKey::parse(1, junk).is_err());
        }
    }
}
