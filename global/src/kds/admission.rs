//! Who may follow this global: a zone shows a token of scope `cp` that this global issued for it, unless the
//! configuration lets it in without (`multizone.global.kds.auth`).
//!
//! What was good once may cease to be: [`Admission::check`] is asked again when signing keys, revocations, the rules or the
//! time change.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use config::{Effective, Loader};
use identity::signing_key::Purpose;
use identity::token::{self, SCOPE_CONTROL_PLANE, Validator};
use model::Snapshot;
use runtime::Fatal;
use runtime::life::Reload;
use tokio::sync::watch;

/// Rules of admission.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Whether zones must show a token (`auth.type` is not `none`).
    pub required: bool,
    /// Zones that come in without (`auth.exceptZones`).
    pub except: BTreeSet<String>,
    /// Whether a token counts that came without encryption (`auth.allowPlaintext`).
    pub allow_plaintext: bool,
    /// Whether the server encrypts.
    pub encrypted: bool,
    /// Keys that tokens are signed with.
    pub validator: Validator,
}

/// What a zone was admitted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was asked for.
    NotAsked,
    /// A token, good until then.
    Token(Arc<str>, DateTime<Utc>),
}

impl Proof {
    /// When it ends, if it does.
    pub fn expires(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::NotAsked => None,
            Self::Token(_, expires) => Some(*expires),
        }
    }
}

/// Reads the rules anew.
#[derive(Clone)]
pub struct Reread(Arc<dyn Fn() -> Result<Admission, Fatal> + Send + Sync>);

impl Reread {
    /// From the layers of the configuration, of which the file may have changed.
    pub fn of(loader: Loader) -> Self {
        Self(Arc::new(move || {
            let loaded = loader.clone().load().map_err(|error| Fatal::new(error.to_string()))?;
            Admission::configured(&loaded.effective)
        }))
    }

    /// Puts new rules in force whenever somebody says that files changed, until the program ends. Rules that cannot be
    /// read leave the old ones.
    pub(crate) async fn follow(&self, rules: &watch::Sender<Arc<Admission>>, reload: &Reload) {
        let mut notices = reload.subscribe();
        while notices.changed().await.is_ok() {
            match (self.0)() {
                Ok(read) => {
                    // The server goes on as it was started.
                    let now = Admission { encrypted: rules.borrow().encrypted, ..read };
                    tracing::info!(token_required = now.required, except = ?now.except, "rules for zones read again");
                    now.warn();
                    rules.send_replace(Arc::new(now));
                }
                Err(error) => tracing::error!(%error, "rules for zones not read again, the old ones stay"),
            }
        }
    }
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

impl Admission {
    /// `multizone.global.kds.auth`, with the keys of zone tokens.
    ///
    /// # Errors
    /// A public key cannot be read.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        const AUTH: &str = "multizone.global.kds.auth";
        Ok(Self {
            required: effective.text(&format!("{AUTH}.type")) != "none",
            except: effective.texts(&format!("{AUTH}.exceptZones")).iter().cloned().collect(),
            allow_plaintext: effective.flag(&format!("{AUTH}.allowPlaintext")),
            encrypted: effective.flag("multizone.global.kds.tlsEnabled"),
            validator: Validator::configured(effective, "dpServer.authn.zoneProxy.zoneToken.validator")?,
        })
    }

    /// Says what is open to everybody, for the log at the start.
    pub fn warn(&self) {
        if !self.required {
            tracing::warn!(
                "multizone.global.kds.auth.type is none: whoever reaches the port of zones gets every secret that zones \
                 get, and may speak for any zone"
            );
        } else if !self.encrypted && !self.allow_plaintext {
            tracing::warn!(
                "zones must show a token, and multizone.global.kds.tlsEnabled is off: all but those of \
                 auth.exceptZones will be refused; switch TLS on, or set auth.allowPlaintext here and at the zones"
            );
        }
        if self.required && !self.except.is_empty() {
            tracing::warn!(zones = ?self.except, "anybody may speak for these zones: they need no token");
        }
    }

    /// Whether a zone that shows this token may follow.
    ///
    /// # Errors
    /// Why not, and what to do, for the logs of both ends.
    pub fn check(
        &self,
        zone: &str,
        shown: Option<&str>,
        snapshot: &Snapshot,
        now: DateTime<Utc>,
    ) -> Result<Proof, String> {
        if !self.required || self.except.contains(zone) {
            return Ok(Proof::NotAsked);
        }
        let Some(token) = shown else {
            return Err(format!(
                "zone {zone:?} shows no zone token: make one on the global with `kumactl generate zone-token --zone \
                 {zone} --scope cp --valid-for 8760h` and name its file in multizone.zone.kds.auth.cpTokenPath of the \
                 zone, or list the zone in multizone.global.kds.auth.exceptZones of the global"
            ));
        };
        if !self.encrypted && !self.allow_plaintext {
            return Err(format!(
                "the token of zone {zone:?} came without encryption, where anybody may have read it: switch on \
                 multizone.global.kds.tlsEnabled of the global and dial it with grpcs://, or set \
                 multizone.global.kds.auth.allowPlaintext"
            ));
        }
        let keys = self.validator.keys(snapshot);
        let refused = |why: String| format!("the token of zone {zone:?} is refused: {why}");
        let good = keys.verify::<token::Zone>(&Purpose::Zone, bearer(token), now);
        let good = good.map_err(|error| refused(error.for_holder()))?;
        good.claims.admits(zone, SCOPE_CONTROL_PLANE).map_err(refused)?;
        Ok(Proof::Token(token.into(), good.expires))
    }
}

/// A token with or without its scheme: both are in use.
fn bearer(header: &str) -> &str {
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => header,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use identity::SigningKey;
    use model::snapshot::Change;
    use model::{Labels, Payload, Resource};
    use uuid::Uuid;

    use super::*;

    fn admission() -> Admission {
        Admission {
            required: true,
            except: BTreeSet::from(["old".to_owned()]),
            allow_plaintext: false,
            encrypted: true,
            validator: Validator { static_keys: Vec::new(), use_secrets: true },
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn secret(key: model::Key, data: &str) -> Change {
        let data = kds_proto::kuma::system::v1alpha1::Secret { data: Some(data.as_bytes().to_vec()) };
        Change::Put(Arc::new(Resource::new(key, Labels::default(), Payload::from_message(&data))))
    }

    /// A token is good for its zone while it is of scope `cp`, not revoked and not expired, and its key is there.
    #[test]
    fn a_zone_shows_a_token_of_its_own() {
        let key = SigningKey::generate(1).unwrap();
        let issue = |zone: &str, scope: &str| {
            let claims = token::Zone { zone: zone.into(), scope: vec![scope.into()] };
            token::issue(claims, &key, Uuid::nil(), now(), TimeDelta::hours(1)).unwrap()
        };
        let good = issue("east", "cp");
        let snapshot = Snapshot::empty().apply(1, [Change::Put(Arc::new(key.to_secret(&Purpose::Zone)))]);
        let check = |admission: &Admission, zone: &str, token: &str| {
            admission.check(zone, Some(token), &snapshot, now()).map(|proof| proof == Proof::NotAsked)
        };
        let rules = admission();
        assert_eq!(check(&rules, "east", &good), Ok(false));
        assert_eq!(check(&rules, "east", &format!("Bearer {good}")), Ok(false));
        for (zone, token, why) in [
            ("west", good.clone(), "zone from requestor: west is different than in token: east"),
            ("east", issue("east", "ingress"), "cp is out of token's scope: [ingress]"),
            ("east", good.clone() + "x", "it is not signed with a key that is known here"),
        ] {
            let refused = check(&rules, zone, &token).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let none = rules.check("east", None, &snapshot, now()).unwrap_err();
        assert!(none.contains("kumactl generate zone-token --zone east --scope cp"), "{none}");
        assert_eq!(rules.check("old", None, &snapshot, now()), Ok(Proof::NotAsked));

        let late = rules.check("east", Some(&good), &snapshot, now() + TimeDelta::hours(2)).unwrap_err();
        assert!(late.ends_with("it has expired"), "{late}");
        let without_key = rules.check("east", Some(&good), &Snapshot::empty(), now()).unwrap_err();
        assert!(without_key.contains("no signing key with KID 1"), "{without_key}");
        let revoked = snapshot.apply(2, [secret(Purpose::Zone.revocations(), &Uuid::nil().to_string())]);
        let revoked = rules.check("east", Some(&good), &revoked, now()).unwrap_err();
        assert!(revoked.ends_with("is revoked"), "{revoked}");
    }

    /// The token never counts in the open, unless both ends say so.
    #[test]
    fn a_token_in_the_open_is_refused() {
        let plain = Admission { encrypted: false, ..admission() };
        let refused = plain.check("east", Some("x"), &Snapshot::empty(), now()).unwrap_err();
        assert!(refused.contains("allowPlaintext"), "{refused}");
        let allowed = Admission { allow_plaintext: true, ..plain };
        assert!(!allowed.check("east", Some("x"), &Snapshot::empty(), now()).unwrap_err().contains("allowPlaintext"));
        let open = Admission { required: false, ..allowed };
        assert_eq!(open.check("east", None, &Snapshot::empty(), now()), Ok(Proof::NotAsked));
    }
}
