//! What a control plane makes at its first start, once: signing keys, the administrator's token, authorities of its own
//! (api-and-kumactl 6).

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use model::{Key, Kind, Resource, Snapshot};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose};
use uuid::Uuid;

use crate::signing_key::{self, KeyError, Purpose, SigningKey};
use crate::token;
use crate::user::User;

/// Lifetime of an authority: ten years.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(10);

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A token.
    #[error("the administrator's token could not be signed: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// A certificate.
    #[error("the certificate of {name} could not be made: {cause}")]
    Certificate {
        /// The secret that was to hold it.
        name: &'static str,
        /// What is wrong.
        cause: rcgen::Error,
    },
}

/// The secret with the administrator's token.
pub fn admin_token() -> Key {
    Key::global(Kind::GlobalSecret, "admin-user-token")
}

/// The first signing key for a purpose; none when there is any, of whatever serial number.
///
/// # Errors
/// The key cannot be made.
pub fn missing_signing_key(snapshot: &Snapshot, purpose: &Purpose) -> Result<Option<SigningKey>, FirstStartError> {
    match SigningKey::newest(snapshot, purpose) {
        Err(KeyError::Missing { .. }) => Ok(Some(SigningKey::generate(1)?)),
        _ => Ok(None),
    }
}

/// The signing key of users and the administrator's token, as far as they are missing.
///
/// # Errors
/// The key cannot be made, or the stored one cannot be read.
pub fn missing_user_credentials(
    snapshot: &Snapshot,
    wants_token: bool,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<Vec<Resource>, FirstStartError> {
    let new = missing_signing_key(snapshot, &Purpose::User)?;
    let mut missing: Vec<Resource> = new.iter().map(|key| key.to_secret(&Purpose::User)).collect();
    if wants_token && snapshot.get(&admin_token()).is_none() {
        let key = match new {
            Some(key) => key,
            None => SigningKey::newest(snapshot, &Purpose::User)?,
        };
        let User { name, groups } = User::admin();
        // Who is authenticated follows from the token and does not stand in it.
        let groups = groups.into_iter().filter(|group| *group == name).collect();
        let claims = token::User { name, groups: Some(groups) };
        let token = token::issue(claims, &key, id, now, token::TEN_YEARS)?;
        missing.push(signing_key::to_secret(admin_token(), token));
    }
    Ok(missing)
}

/// An authority that a control plane keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Internal {
    /// Of the instances of a control plane, which call each other.
    Instances,
    /// Of the admin ports of a zone's proxies.
    ProxyAdmin,
}

impl Internal {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Instances => ("inter-cp-ca", "Control Plane Intercommunication CA"),
            Self::ProxyAdmin => ("envoy-admin-ca", "Envoy Admin CA"),
        }
    }

    /// The secret that holds certificate and key, PEM, one after the other.
    pub fn key(self) -> Key {
        Key::global(Kind::GlobalSecret, self.names().0)
    }

    /// The authority's secret; none when there is one.
    ///
    /// # Errors
    /// Key or certificate cannot be made.
    pub fn missing(self, snapshot: &Snapshot, now: DateTime<Utc>) -> Result<Option<Resource>, FirstStartError> {
        if snapshot.get(&self.key()).is_some() {
            return Ok(None);
        }
        let (name, common_name) = self.names();
        let wrong = |cause| FirstStartError::Certificate { name, cause };
        let key = SigningKey::generate(0)?;
        let pair = rcgen::KeyPair::try_from(key.private_der()).map_err(wrong)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in [
            (DnType::OrganizationName, "Kuma"),
            (DnType::OrganizationalUnitName, "Mesh"),
            (DnType::CommonName, common_name),
        ] {
            params.distinguished_name.push(kind, text);
        }
        params.serial_number = Some(0_u64.into());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = SystemTime::from(now - SKEW).into();
        params.not_after = SystemTime::from(now + LIFETIME).into();
        let certificate = params.self_signed(&pair).map_err(wrong)?;
        let data = signing_key::to_pem("CERTIFICATE", certificate.der()) + &key.private_pem();
        Ok(Some(signing_key::to_secret(self.key(), data)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::snapshot::Change;

    use super::*;
    use crate::token::Keys;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn with(snapshot: &Snapshot, resources: Vec<Resource>) -> Snapshot {
        let changes = resources.into_iter().map(|resource| Change::Put(Arc::new(resource)));
        snapshot.apply(snapshot.revision() + 1, changes)
    }

    fn names(resources: &[Resource]) -> Vec<&str> {
        resources.iter().map(|resource| &*resource.meta.key.name).collect()
    }

    /// API-17: the administrator's token is a good one, for ten years, and nothing is made twice.
    #[test]
    fn credentials_are_made_once() {
        let empty = Snapshot::empty();
        let made = missing_user_credentials(&empty, true, Uuid::nil(), now()).unwrap();
        assert_eq!(names(&made), ["user-token-signing-key-1", "admin-user-token"]);
        let snapshot = with(&empty, made);
        assert!(missing_user_credentials(&snapshot, true, Uuid::nil(), now()).unwrap().is_empty());

        let token = signing_key::secret(&snapshot, &admin_token()).unwrap();
        let token = String::from_utf8(token).unwrap();
        let keys = Keys { snapshot: &snapshot, static_keys: &[], use_secrets: true };
        let good = keys.verify::<token::User>(&Purpose::User, &token, now()).unwrap();
        assert_eq!(
            (&*good.claims.name, good.claims.groups.unwrap()),
            ("mesh-system:admin", vec!["mesh-system:admin".to_owned()])
        );
        assert_eq!(good.expires, now() + token::TEN_YEARS);

        let without = with(&snapshot, vec![]).apply(9, [Change::Remove(admin_token())]);
        assert!(missing_user_credentials(&without, false, Uuid::nil(), now()).unwrap().is_empty());
        assert_eq!(names(&missing_user_credentials(&without, true, Uuid::nil(), now()).unwrap()), ["admin-user-token"]);
    }

    #[test]
    fn authorities_are_one_blob_and_made_once() {
        for (which, name, subject) in [
            (Internal::Instances, "inter-cp-ca", "O=Kuma, OU=Mesh, CN=Control Plane Intercommunication CA"),
            (Internal::ProxyAdmin, "envoy-admin-ca", "O=Kuma, OU=Mesh, CN=Envoy Admin CA"),
        ] {
            let made = which.missing(&Snapshot::empty(), now()).unwrap().unwrap();
            assert_eq!(&*made.meta.key.name, name);
            let snapshot = with(&Snapshot::empty(), vec![made]);
            assert!(which.missing(&snapshot, now()).unwrap().is_none());
            let blob = signing_key::secret(&snapshot, &which.key()).unwrap();
            let blocks = pem::parse_many(&blob).unwrap();
            let tags: Vec<&str> = blocks.iter().map(pem::Pem::tag).collect();
            assert_eq!(tags, ["CERTIFICATE", "RSA PRIVATE KEY"]);
            let (_, certificate) = x509_parser::parse_x509_certificate(blocks[0].contents()).unwrap();
            assert_eq!(certificate.subject().to_string(), subject);
            assert!(certificate.is_ca());
            certificate.verify_signature(None).unwrap();
        }
    }
}
