use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use model::Snapshot;

use super::{Body, Claims, Verified};
use crate::signing_key::{KeyError, Purpose, SigningKey, parse_public, secret};

/// Most bytes that a token may have; longer ones are not looked at.
const MAX_TOKEN: usize = 16 << 10;

/// A public key in the configuration, for tokens that are issued offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticKey {
    /// The `kid`.
    pub id: String,
    /// Mesh of its tokens; `None` for every mesh, and for tokens without mesh.
    pub mesh: Option<String>,
    /// `RSAPublicKey` of RFC 8017, DER.
    der: Vec<u8>,
}

impl StaticKey {
    /// From an `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(id: String, mesh: Option<String>, pem: &[u8]) -> Result<Self, String> {
        Ok(Self { id, mesh, der: parse_public(pem)? })
    }
}

/// Keys that tokens of one sort may be signed with.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Where the secrets are.
    pub snapshot: &'a Snapshot,
    /// Keys of the configuration.
    pub static_keys: &'a [StaticKey],
    /// Whether keys in secrets count.
    pub use_secrets: bool,
}

/// Which keys count for tokens of one sort, whatever is stored at the time.
#[derive(Clone, Debug)]
pub struct Validator {
    /// Keys of the configuration.
    pub static_keys: Vec<StaticKey>,
    /// Whether keys in secrets count.
    pub use_secrets: bool,
}

impl Validator {
    /// The keys as a snapshot has them.
    pub fn keys<'a>(&'a self, snapshot: &'a Snapshot) -> Keys<'a> {
        Keys { snapshot, static_keys: &self.static_keys, use_secrets: self.use_secrets }
    }
}

/// Why a token is not good. For our log: a caller learns only that it is not.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is no JWT, not signed by its key, or not good at this time.
    #[error("the token is not good: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// It is longer than any of ours.
    #[error("the token has {0} bytes, more than {MAX_TOKEN}")]
    TooLong(usize),
    /// The header names no key.
    #[error("the token's header has no usable kid")]
    NoKeyId,
    /// The header asks for an algorithm that its key is not for.
    #[error("a token of key {key:?} cannot have algorithm {algorithm:?}")]
    WrongAlgorithm {
        /// The `kid`.
        key: String,
        /// The `alg`.
        algorithm: Algorithm,
    },
    /// Its key is not known.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was revoked.
    #[error("the token {0} is revoked")]
    Revoked(String),
}

impl VerifyError {
    /// What whoever shows the token may know, and can mend. Of a forgery nothing more is told.
    pub fn for_holder(&self) -> String {
        use jsonwebtoken::errors::ErrorKind::{ExpiredSignature, ImmatureSignature};
        match self {
            Self::Revoked(_) | Self::Key(_) => self.to_string(),
            Self::Invalid(error) if *error.kind() == ExpiredSignature => "it has expired".to_owned(),
            Self::Invalid(error) if *error.kind() == ImmatureSignature => {
                "it is not good yet: do the clocks of both ends agree?".to_owned()
            }
            _ => "it is not signed with a key that is known here".to_owned(),
        }
    }
}

impl Keys<'_> {
    /// Checks signature, times and revocation of a token for a purpose, and reads it.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn verify<C: Claims>(
        &self,
        purpose: &Purpose,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Verified<C>, VerifyError> {
        if token.len() > MAX_TOKEN {
            return Err(VerifyError::TooLong(token.len()));
        }
        let header = jsonwebtoken::decode_header(token)?;
        let id = header.kid.ok_or(VerifyError::NoKeyId)?;
        // The algorithm follows from the key and never from the token, or a public key could be used as a shared secret.
        let (key, algorithm) = self.key(purpose, &id)?;
        if header.alg != algorithm {
            return Err(VerifyError::WrongAlgorithm { key: id, algorithm: header.alg });
        }
        let mut validation = Validation::new(algorithm);
        // Times are judged below, by the caller's clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims = ["exp".to_owned()].into();
        let body = jsonwebtoken::decode::<Body<C>>(token, &key, &validation)?.claims;
        let expires = DateTime::from_timestamp(body.exp, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
        if expires <= now {
            return Err(VerifyError::Invalid(jsonwebtoken::errors::ErrorKind::ExpiredSignature.into()));
        }
        if body.nbf > now.timestamp() {
            return Err(VerifyError::Invalid(jsonwebtoken::errors::ErrorKind::ImmatureSignature.into()));
        }
        if self.is_revoked(purpose, &body.jti) {
            return Err(VerifyError::Revoked(body.jti));
        }
        Ok(Verified { claims: body.own, id: body.jti, expires })
    }

    fn key(&self, purpose: &Purpose, id: &str) -> Result<(DecodingKey, Algorithm), VerifyError> {
        let mesh = match purpose {
            Purpose::Dataplane { mesh } => Some(mesh),
            Purpose::Zone | Purpose::User => None,
        };
        let fits = |key: &&StaticKey| key.id == id && key.mesh.as_ref().is_none_or(|of| Some(of) == mesh);
        if let Some(key) = self.static_keys.iter().find(fits) {
            return Ok((DecodingKey::from_rsa_der(&key.der), Algorithm::RS256));
        }
        let serial: u64 = id.parse().map_err(|_| VerifyError::NoKeyId)?;
        let place = purpose.key(serial);
        let missing = || KeyError::Missing { serial, key: place.clone() };
        if !self.use_secrets {
            return Err(missing().into());
        }
        let unreadable = |reason| KeyError::Unreadable { key: place.clone(), reason };
        if let Some(data) = secret(self.snapshot, &place) {
            if serial == 0 {
                return Ok((DecodingKey::from_secret(&data), Algorithm::HS256));
            }
            let public = SigningKey::parse(serial, &data).and_then(|key| key.public_der()).map_err(unreadable)?;
            return Ok((DecodingKey::from_rsa_der(&public), Algorithm::RS256));
        }
        let public = purpose.public_key(serial).and_then(|key| secret(self.snapshot, &key)).ok_or_else(missing)?;
        let public = parse_public(&public).map_err(unreadable)?;
        Ok((DecodingKey::from_rsa_der(&public), Algorithm::RS256))
    }

    /// Whether the list of the purpose holds the identifier: separated by commas and compared letter for letter.
    fn is_revoked(&self, purpose: &Purpose, id: &str) -> bool {
        let Some(data) = secret(self.snapshot, &purpose.revocations()) else { return false };
        let list = String::from_utf8_lossy(&data);
        list.trim_end_matches('\n').split(',').any(|revoked| revoked == id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use chrono::TimeDelta;
    use jsonwebtoken::{EncodingKey, Header};
    use kds_proto::kuma::system::v1alpha1::Secret;
    use model::snapshot::Change;
    use model::{Key, Labels, Payload, Resource};
    use uuid::Uuid;

    use super::super::{User, Zone, issue};
    use super::*;

    static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(1).unwrap());

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn secret(key: Key, data: &[u8]) -> Change {
        let data = Secret { data: Some(data.to_vec()) };
        Change::Put(Arc::new(Resource::new(key, Labels::default(), Payload::from_message(&data))))
    }

    fn with_key(more: Vec<Change>) -> Snapshot {
        let key = Change::Put(Arc::new(KEY.to_secret(&Purpose::User)));
        Snapshot::empty().apply(1, more.into_iter().chain([key]))
    }

    fn token(lifetime: TimeDelta) -> String {
        issue(User { name: "jo".into(), groups: None }, &KEY, Uuid::nil(), now(), lifetime).unwrap()
    }

    fn verify(snapshot: &Snapshot, token: &str) -> Result<Verified<User>, VerifyError> {
        Keys { snapshot, static_keys: &[], use_secrets: true }.verify(&Purpose::User, token, now())
    }

    fn refusal(snapshot: &Snapshot, token: &str) -> String {
        verify(snapshot, token).unwrap_err().to_string()
    }

    proptest::proptest! {
        /// What a peer shows in place of a token, and what it makes of a good one, is refused with a reason.
        #[test]
        fn what_nobody_signed_is_refused(
            noise in proptest::prelude::any::<String>(),
            at in proptest::prelude::any::<proptest::sample::Index>(),
            by in 1..=127u8,
        ) {
            let snapshot = with_key(vec![]);
            proptest::prop_assert!(!refusal(&snapshot, &noise).is_empty());
            let mut changed = token(TimeDelta::hours(1)).into_bytes();
            let at = at.index(changed.len());
            changed[at] = (changed[at] ^ by) & 0x7f;
            let changed = String::from_utf8(changed)?;
            proptest::prop_assert!(!refusal(&snapshot, &changed).is_empty(), "{changed}");
            proptest::prop_assert!(!refusal(&snapshot, &changed[..at]).is_empty());
        }
    }

    #[test]
    fn a_token_of_ours_is_good_until_it_ends() {
        let good = verify(&with_key(vec![]), &token(TimeDelta::hours(1))).unwrap();
        assert_eq!((good.claims.name.as_str(), good.id), ("jo", Uuid::nil().to_string()));
        assert!(refusal(&with_key(vec![]), &token(TimeDelta::zero())).contains("ExpiredSignature"));
        let later =
            issue(User::default(), &KEY, Uuid::nil(), now() + TimeDelta::hours(1), TimeDelta::hours(2)).unwrap();
        assert!(refusal(&with_key(vec![]), &later).contains("ImmatureSignature"));
    }

    #[test]
    fn a_revoked_token_is_refused_letter_for_letter() {
        let list = |text: &str| with_key(vec![secret(Purpose::User.revocations(), text.as_bytes())]);
        let id = Uuid::nil().to_string();
        assert!(refusal(&list(&format!("x,{id}\n")), &token(TimeDelta::hours(1))).contains("is revoked"));
        assert!(verify(&list(&format!("x, {id}")), &token(TimeDelta::hours(1))).is_ok());
    }

    #[test]
    fn the_key_decides_the_algorithm() {
        let claims = serde_json::json!({"Name": "root", "exp": now().timestamp() + 60});
        let snapshot = with_key(vec![]);
        let with_secret = |kid: &str, secret: &[u8]| {
            let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
        };
        let confused = with_secret("1", KEY.public_pem().unwrap().as_bytes());
        assert!(refusal(&snapshot, &confused).contains("cannot have algorithm HS256"));
        let unsigned = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"1"}"#),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        assert!(verify(&snapshot, &unsigned).is_err());
        let legacy = with_key(vec![secret(Purpose::User.key(0), b"shared secret of long ago")]);
        assert!(verify(&legacy, &with_secret("0", b"shared secret of long ago")).is_ok());
        assert!(verify(&legacy, &with_secret("0", b"guess")).is_err());
    }

    #[test]
    fn a_forged_or_foreign_token_is_refused() {
        let snapshot = with_key(vec![]);
        let good = token(TimeDelta::hours(1));
        let (head, signature) = good.rsplit_once('.').unwrap();
        let other = SigningKey::generate(1).unwrap();
        let foreign = issue(User::default(), &other, Uuid::nil(), now(), TimeDelta::hours(1)).unwrap();
        let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
        for bad in [foreign.as_str(), &forged, "abc.def.ghi", "", &"x".repeat(20_000)] {
            assert!(verify(&snapshot, bad).is_err());
        }
        let unknown = issue(
            User::default(),
            &SigningKey::parse(9, KEY.private_pem().as_bytes()).unwrap(),
            Uuid::nil(),
            now(),
            TimeDelta::hours(1),
        );
        assert!(refusal(&snapshot, &unknown.unwrap()).starts_with("there is no signing key with KID 9."));
    }

    #[test]
    fn a_federated_zone_verifies_with_the_public_half() {
        let public = KEY.public_pem().unwrap();
        let snapshot = Snapshot::empty().apply(1, [secret(Purpose::Zone.public_key(1).unwrap(), public.as_bytes())]);
        let token = issue(
            Zone { zone: "east".into(), scope: vec!["cp".into()] },
            &KEY,
            Uuid::nil(),
            now(),
            TimeDelta::hours(1),
        );
        let keys = Keys { snapshot: &snapshot, static_keys: &[], use_secrets: true };
        assert_eq!(keys.verify::<Zone>(&Purpose::Zone, &token.unwrap(), now()).unwrap().claims.zone, "east");
    }

    #[test]
    fn a_static_key_counts_for_its_mesh() {
        let public = KEY.public_pem().unwrap();
        let keys = [StaticKey::parse("1".into(), Some("demo".into()), public.as_bytes()).unwrap()];
        let empty = Snapshot::empty();
        let claims = super::super::Dataplane { mesh: "demo".into(), ..Default::default() };
        let token = issue(claims, &KEY, Uuid::nil(), now(), TimeDelta::hours(1)).unwrap();
        let verify = |mesh: &str| {
            let keys = Keys { snapshot: &empty, static_keys: &keys, use_secrets: false };
            keys.verify::<super::super::Dataplane>(&Purpose::Dataplane { mesh: mesh.into() }, &token, now()).is_ok()
        };
        assert!(verify("demo"));
        assert!(!verify("other"));
    }
}
