//! Whether a proxy is who it says: its token, on its first request (zone-dataplane 2.4).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use config::Effective;
use identity::signing_key::Purpose;
use identity::token::{self, Claims, Proxy, SCOPE_EGRESS, SCOPE_INGRESS, Validator};
use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use model::mode::Environment;
use model::spec::{dataplane, mesh_identity};
use model::{Kind, Resource, Snapshot, labels};
use runtime::Fatal;
use tonic::metadata::MetadataMap;

use super::refusal::Refusal;

/// Key of the metadata with the token, which stands there as it is, without `Bearer`.
const AUTHORIZATION: &str = "authorization";

/// Which tokens are good.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    zone: String,
    environment: Environment,
    dataplane: Proof,
    zone_proxy: Proof,
}

/// How proxies prove who they are.
#[derive(Clone, Debug)]
enum Proof {
    /// They need not.
    NotAsked,
    /// With tokens that are signed with one of these keys.
    Token(Validator),
    /// In a way that we do not know: none can.
    Unsupported(String),
}

impl Admission {
    /// `dpServer.authn`.
    ///
    /// # Errors
    /// A public key cannot be read.
    pub fn configured(effective: &Effective, zone: &str, environment: Environment) -> Result<Self, Fatal> {
        let keys = |whose: &str, word: &str| {
            let section = format!("dpServer.authn.{whose}");
            Ok(match effective.text(&format!("{section}.type")) {
                "none" => Proof::NotAsked,
                found if found == word => {
                    Proof::Token(Validator::configured(effective, &format!("{section}.{word}.validator"))?)
                }
                other => {
                    tracing::warn!(
                        "{section}.type={other} is not supported here: use {word} or none; no proxy can join"
                    );
                    Proof::Unsupported(format!("{section}.type={other} is not supported by this control plane"))
                }
            })
        };
        let (dataplane, zone_proxy) = (keys("dpProxy", "dpToken")?, keys("zoneProxy", "zoneToken")?);
        Ok(Self { zone: zone.to_owned(), environment, dataplane, zone_proxy })
    }

    /// Whether a proxy with this resource may use this token.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        stored: &Snapshot,
        resource: &Resource,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let checked = match resource.kind() {
            Kind::Dataplane => self.check_dataplane(stored, resource, token, now),
            Kind::ZoneIngress => self.check_zone_proxy(stored, SCOPE_INGRESS, token, now),
            _ => self.check_zone_proxy(stored, SCOPE_EGRESS, token, now),
        };
        checked.map_err(Refusal::Unauthenticated)
    }

    fn check_dataplane(
        &self,
        stored: &Snapshot,
        resource: &Resource,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<(), String> {
        let mesh = &resource.meta.key.mesh;
        let purpose = Purpose::Dataplane { mesh: mesh.to_string() };
        let Some(claims) = self.dataplane.verify::<token::Dataplane>(stored, &purpose, token, now)? else {
            return Ok(());
        };
        let dataplane = resource.spec.message::<Dataplane>().map_err(|error| error.to_string())?;
        let mut tags: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (tag, value) in dataplane::tag_sets(&dataplane).flatten() {
            tags.entry(tag).or_default().insert(value);
        }
        let labels = &resource.meta.labels;
        let proxy = Proxy {
            name: &resource.meta.key.name,
            mesh,
            tags,
            workload: labels.get(labels::WORKLOAD),
            identity_from_workload: self.identity(stored, resource).is_some(),
        };
        claims.admits(&proxy)
    }

    fn check_zone_proxy(&self, stored: &Snapshot, scope: &str, token: &str, now: DateTime<Utc>) -> Result<(), String> {
        let claims = self.zone_proxy.verify::<token::Zone>(stored, &Purpose::Zone, token, now)?;
        claims.map_or(Ok(()), |claims| claims.admits(&self.zone, scope))
    }

    /// Name of the MeshIdentity whose names of this proxy follow from its workload.
    fn identity(&self, stored: &Snapshot, resource: &Resource) -> Option<String> {
        let identities = stored.list_in(Kind::MeshIdentity, &resource.meta.key.mesh);
        let (found, identity) = mesh_identity::best_matched(&resource.meta.labels, identities)?;
        identity.uses_workload(self.environment).then(|| found.meta.display_name().to_owned())
    }

    /// A dataplane that is named after its workload has to have one.
    ///
    /// # Errors
    /// It has none.
    pub fn check_workload(&self, stored: &Snapshot, resource: &Resource) -> Result<(), Refusal> {
        if resource.kind() != Kind::Dataplane || resource.meta.labels.get(labels::WORKLOAD).is_some() {
            return Ok(());
        }
        let Some(identity) = self.identity(stored, resource) else { return Ok(()) };
        Err(Refusal::NotRegistered(format!(
            "it has no label {:?}, and MeshIdentity {identity:?} names proxies after it",
            labels::WORKLOAD
        )))
    }
}

impl Proof {
    /// What a good token says; `None` where none is asked for.
    fn verify<C: Claims>(
        &self,
        stored: &Snapshot,
        purpose: &Purpose,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<C>, String> {
        let keys = match self {
            Self::NotAsked => return Ok(None),
            Self::Unsupported(reason) => return Err(reason.clone()),
            Self::Token(keys) => keys.keys(stored),
        };
        if token.is_empty() {
            return Err("there is no token".to_owned());
        }
        match keys.verify::<C>(purpose, token, now) {
            Ok(verified) => Ok(Some(verified.claims)),
            Err(error) => {
                tracing::debug!(%error, "a token is no good");
                Err(error.for_holder())
            }
        }
    }
}

/// The token that a call shows; empty without one.
///
/// # Errors
/// It shows several.
pub(crate) fn credential(metadata: &MetadataMap) -> Result<String, Refusal> {
    let mut all = metadata.get_all(AUTHORIZATION).iter();
    let first = all.next();
    let more = all.count();
    if more > 0 {
        let found = more + 1;
        return Err(Refusal::Unauthenticated(format!("there has to be exactly one {AUTHORIZATION:?}, found {found}")));
    }
    let text = first.map(|value| value.to_str().map(str::to_owned)).transpose();
    text.map(Option::unwrap_or_default)
        .map_err(|_| Refusal::Unauthenticated("the token has characters that no token has".to_owned()))
}

#[cfg(test)]
mod tests;
