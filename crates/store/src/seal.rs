//! Secrets at rest: AES-256-GCM under the keys of a [`KeyRing`].
//!
//! A sealed spec is `nonce (12 bytes) || ciphertext || tag (16 bytes)`; kind, mesh and name are authenticated with it,
//! so a row that was moved to another name does not open.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::kind::Access;
use model::{Key, Kind};

/// Largest key file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Named keys. The first one encrypts; all of them decrypt.
///
/// To rotate, put a new key on the first line and restart: everything is encrypted anew with it, and the old line can
/// go after that.
#[derive(Clone)]
pub struct KeyRing {
    active: Arc<str>,
    keys: Arc<BTreeMap<Arc<str>, LessSafeKey>>,
}

/// Why keys cannot be used. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The file.
    #[error("cannot read the encryption keys in {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The environment.
    #[error("environment variable {0} holds no encryption keys")]
    NoVariable(String),
    /// No line with a key.
    #[error("no encryption key found; write one per line: an id, a space, and 32 random bytes in base64")]
    Empty,
    /// A line that is no key.
    #[error("line {line} of the encryption keys: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnsealError {
    #[error("{key} is encrypted with key {id:?}, which is not configured; add it to the encryption keys")]
    NoKey { key: Key, id: String },
    #[error(
        "{key} does not decrypt with key {id:?}: the key differs from the one that encrypted it, or the data is damaged"
    )]
    Damaged { key: Key, id: String },
}

impl KeyRing {
    /// Keys from text, one per line: an id, white space, 32 bytes in base64. Empty lines and `#` comments are skipped.
    ///
    /// # Errors
    /// A line is no key, an id comes twice, or there is none.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut active = None;
        let mut keys = BTreeMap::new();
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |reason| KeyRingError::Line { line: at + 1, reason };
            let (id, encoded) =
                line.split_once(char::is_whitespace).ok_or_else(|| fault("expected an id, a space and a key"))?;
            let bytes = STANDARD.decode(encoded.trim()).map_err(|_| fault("the key is not base64"))?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| fault("the key does not have 32 bytes"))?;
            let id: Arc<str> = id.into();
            if keys.insert(Arc::clone(&id), LessSafeKey::new(key)).is_some() {
                return Err(fault("the id is used twice"));
            }
            active.get_or_insert(id);
        }
        Ok(Self { active: active.ok_or(KeyRingError::Empty)?, keys: Arc::new(keys) })
    }

    /// Keys from a file.
    ///
    /// # Errors
    /// The file cannot be read, or [`KeyRing::parse`] refuses it.
    pub fn from_file(path: &Path) -> Result<Self, KeyRingError> {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .map_err(|source| KeyRingError::Unreadable { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// Keys from an environment variable.
    ///
    /// # Errors
    /// It is not set, or [`KeyRing::parse`] refuses it.
    pub fn from_env(variable: &str) -> Result<Self, KeyRingError> {
        Self::parse(&std::env::var(variable).map_err(|_| KeyRingError::NoVariable(variable.to_owned()))?)
    }

    /// Id of the key that encrypts.
    pub fn active(&self) -> &str {
        &self.active
    }

    fn seal(&self, key: &Key, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut sealed = nonce.to_vec();
        let mut content = plain.to_vec();
        let tag = self.keys[&self.active]
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), associated(key), &mut content)
            .ok()?;
        sealed.extend_from_slice(&content);
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    fn unseal(&self, key: &Key, id: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let with = self.keys.get(id).ok_or_else(|| UnsealError::NoKey { key: key.clone(), id: id.to_owned() })?;
        let damaged = || UnsealError::Damaged { key: key.clone(), id: id.to_owned() };
        let (nonce, content) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut content = content.to_vec();
        let plain = with
            .open_in_place(Nonce::assume_unique_for_key(*nonce), associated(key), &mut content)
            .map_err(|_| damaged())?
            .len();
        content.truncate(plain);
        Ok(content)
    }
}

/// Ids alone.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing(active {:?}, {} keys)", self.active, self.keys.len())
    }
}

fn associated(key: &Key) -> Aad<Vec<u8>> {
    Aad::from(format!("{}\0{}\0{}", key.kind, key.mesh, key.name).into_bytes())
}

/// Encrypts what is secret, when there are keys.
#[derive(Clone, Debug)]
pub(crate) struct Sealer(pub(crate) Option<KeyRing>);

/// The secret could not be encrypted: the system has no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("encryption failed")]
pub(crate) struct SealFailed;

impl Sealer {
    /// Whether the content of a kind is secret.
    pub(crate) fn is_secret(kind: Kind) -> bool {
        kind.info().access == Access::Admins
    }

    /// What to store for a spec, and the id of the key that it is encrypted with.
    pub(crate) fn seal(&self, key: &Key, spec: &[u8]) -> Result<(Vec<u8>, Option<String>), SealFailed> {
        match &self.0 {
            Some(ring) if Self::is_secret(key.kind) => {
                Ok((ring.seal(key, spec).ok_or(SealFailed)?, Some(ring.active.to_string())))
            }
            _ => Ok((spec.to_vec(), None)),
        }
    }

    /// The spec of a stored row.
    pub(crate) fn unseal(&self, key: &Key, stored: Vec<u8>, with: Option<&str>) -> Result<Vec<u8>, UnsealError> {
        match (with, &self.0) {
            (None, _) => Ok(stored),
            (Some(id), Some(ring)) => ring.unseal(key, id, &stored),
            (Some(id), None) => Err(UnsealError::NoKey { key: key.clone(), id: id.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, byte: u8) -> String {
        format!("{id} {}\n", STANDARD.encode([byte; 32]))
    }

    fn ring(text: &str) -> Sealer {
        Sealer(Some(KeyRing::parse(text).unwrap()))
    }

    fn key(name: &str) -> Key {
        Key::new(Kind::Secret, "default", name)
    }

    #[test]
    fn an_older_key_still_opens_and_the_first_one_seals() {
        let (sealed, with) = ring(&line("old", 1)).seal(&key("a"), b"hidden").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"hidden"));
        let rotated = ring(&(line("new", 2) + &line("old", 1)));
        assert_eq!(rotated.unseal(&key("a"), sealed, with.as_deref()).unwrap(), b"hidden");
        assert_eq!(rotated.seal(&key("a"), b"x").unwrap().1.as_deref(), Some("new"));
    }

    #[test]
    fn a_moved_damaged_or_foreign_secret_does_not_open() {
        let sealer = ring(&line("k", 1));
        let (sealed, with) = sealer.seal(&key("a"), b"hidden").unwrap();
        let open = |sealer: &Sealer, name: &str, bytes: Vec<u8>| sealer.unseal(&key(name), bytes, with.as_deref());
        assert!(open(&sealer, "a", sealed.clone()).is_ok());
        assert!(open(&sealer, "b", sealed.clone()).is_err());
        let mut damaged = sealed.clone();
        damaged[20] ^= 1;
        assert!(open(&sealer, "a", damaged).is_err());
        assert!(open(&sealer, "a", sealed[..5].to_vec()).is_err());
        assert!(open(&ring(&line("k", 2)), "a", sealed.clone()).is_err());
        let missing = open(&ring(&line("other", 1)), "a", sealed).unwrap_err().to_string();
        assert_eq!(
            missing,
            r#"Secret "a" in mesh "default" is encrypted with key "k", which is not configured; add it to the encryption keys"#
        );
    }

    #[test]
    fn only_secrets_are_sealed() {
        let plain = ring(&line("k", 1)).seal(&Key::global(Kind::Mesh, "default"), b"x").unwrap();
        assert_eq!(plain, (b"x".to_vec(), None));
        assert_eq!(Sealer(None).seal(&key("a"), b"x").unwrap(), (b"x".to_vec(), None));
    }

    #[test]
    fn bad_keys_are_refused_by_line_and_never_printed() {
        let text = |bad: &str| KeyRing::parse(bad).unwrap_err().to_string();
        assert_eq!(text("# nothing\n\n"), KeyRingError::Empty.to_string());
        assert_eq!(text("\nabc"), "line 2 of the encryption keys: expected an id, a space and a key");
        assert_eq!(text("a c2hvcnQ="), "line 1 of the encryption keys: the key does not have 32 bytes");
        assert_eq!(text("a !secret!"), "line 1 of the encryption keys: the key is not base64");
        assert_eq!(text(&(line("a", 1) + &line("a", 2))), "line 2 of the encryption keys: the id is used twice");
        let shown = format!("{:?}", KeyRing::parse(&line("a", 7)).unwrap());
        assert_eq!(shown, r#"KeyRing(active "a", 1 keys)"#);
    }
}
