//! Tokens: RS256 JWTs with Kuma's claims (api-and-kumactl 2.5, zone-dataplane 2).

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::signing_key::{Purpose, SigningKey};

mod admit;
mod verify;

pub use admit::Proxy;
pub use verify::{Keys, StaticKey, Validator, VerifyError};

/// How long a token of a proxy or a zone is good when nobody says it.
pub const TEN_YEARS: TimeDelta = TimeDelta::days(3650);

/// How far back a token is dated, so that a verifier whose clock is a little behind takes it at once.
const BACKDATED: TimeDelta = TimeDelta::seconds(5);

/// Claims of one sort of token. Members that are unset are present, with empty values.
pub trait Claims: Serialize + DeserializeOwned {
    /// What the signing key is for.
    fn purpose(&self) -> Purpose;
}

/// A data plane proxy, or an older zone proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Dataplane {
    /// The one proxy that may use it; empty for any.
    pub name: String,
    /// Mesh of the proxy.
    pub mesh: String,
    /// Values that each tag of the proxy may have.
    #[serde(deserialize_with = "null_is_empty")]
    pub tags: BTreeMap<String, Vec<String>>,
    /// `dataplane`, `ingress`, `egress` or empty.
    pub r#type: String,
    /// Workload of the proxy; empty for any.
    pub workload: String,
}

/// The proxies or the control plane of a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Zone {
    /// The zone; empty for any.
    pub zone: String,
    /// What it may be used as: `ingress`, `egress`, `cp`.
    #[serde(deserialize_with = "null_is_empty")]
    pub scope: Vec<String>,
}

/// Go writes `null` for what was never set.
fn null_is_empty<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// A user of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups; `null` when there are none.
    pub groups: Option<Vec<String>>,
}

/// Scope of a zone's ingress.
pub const SCOPE_INGRESS: &str = "ingress";
/// Scope of a zone's egress.
pub const SCOPE_EGRESS: &str = "egress";
/// Scope of a zone's control plane: what it shows to its global.
pub const SCOPE_CONTROL_PLANE: &str = "cp";

impl Claims for Dataplane {
    fn purpose(&self) -> Purpose {
        Purpose::Dataplane { mesh: self.mesh.clone() }
    }
}

impl Claims for Zone {
    fn purpose(&self) -> Purpose {
        Purpose::Zone
    }
}

impl Claims for User {
    fn purpose(&self) -> Purpose {
        Purpose::User
    }
}

/// Header of a JWT in Kuma's order.
#[derive(Serialize)]
struct Header {
    alg: &'static str,
    kid: String,
    typ: &'static str,
}

/// Claims of a JWT in Kuma's order: first its own, then the registered ones.
#[derive(Serialize, Deserialize)]
struct Body<C> {
    #[serde(flatten)]
    own: C,
    exp: i64,
    #[serde(default)]
    nbf: i64,
    #[serde(default)]
    iat: i64,
    #[serde(default)]
    jti: String,
}

/// A good token: what it says, and the identifier by which it can be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<C> {
    /// What it says.
    pub claims: C,
    /// The `jti`.
    pub id: String,
    /// When it ends.
    pub expires: DateTime<Utc>,
}

/// A new token.
///
/// # Errors
/// The key does not sign: it was no RSA key.
pub fn issue<C: Claims>(
    claims: C,
    key: &SigningKey,
    id: Uuid,
    now: DateTime<Utc>,
    lifetime: TimeDelta,
) -> Result<String, jsonwebtoken::errors::Error> {
    let begins = (now - BACKDATED).timestamp();
    let expires = now.checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC).timestamp();
    let body = Body { own: claims, exp: expires, nbf: begins, iat: begins, jti: id.to_string() };
    let header = Header { alg: "RS256", kid: key.serial().to_string(), typ: "JWT" };
    let message = format!("{}.{}", part(&header)?, part(&body)?);
    let key = EncodingKey::from_rsa_der(key.private_der());
    Ok(format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::RS256)?))
}

fn part(value: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(value)?))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn parts<C: Claims>(claims: C) -> (String, String) {
        let key = SigningKey::generate(3).unwrap();
        let now = DateTime::from_timestamp(1_000_000_005, 0).unwrap();
        let token = issue(claims, &key, Uuid::nil(), now, TimeDelta::hours(1)).unwrap();
        let mut parts =
            token.split('.').map(|part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap_or_default()));
        let mut next = || parts.next().unwrap().unwrap();
        (next(), next())
    }

    /// API-16: claims are capitalised, present even when empty, and dated five seconds back.
    #[test]
    fn claims_have_their_names_and_their_order() {
        let (header, claims) = parts(Dataplane { mesh: "default".into(), ..Dataplane::default() });
        assert_eq!(header, r#"{"alg":"RS256","kid":"3","typ":"JWT"}"#);
        assert_eq!(
            claims,
            r#"{"Name":"","Mesh":"default","Tags":{},"Type":"","Workload":"","exp":1000003605,"nbf":1000000000,"iat":1000000000,"jti":"00000000-0000-0000-0000-000000000000"}"#
        );
        assert!(parts(User { name: "jo".into(), groups: None }).1.starts_with(r#"{"Name":"jo","Groups":null,"exp""#));
        assert!(
            parts(Zone { zone: "east".into(), scope: vec!["cp".into()] })
                .1
                .starts_with(r#"{"Zone":"east","Scope":["cp"]"#)
        );
    }
}
