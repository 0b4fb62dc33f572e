//! Whether the claims of a good token fit whoever shows it (zone-dataplane 2.4).

use std::collections::{BTreeMap, BTreeSet};

use super::{Dataplane, Zone};

/// A data plane proxy that presents a token.
#[derive(Clone, Debug, Default)]
pub struct Proxy<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its mesh.
    pub mesh: &'a str,
    /// Its tags: all values over all inbounds and the gateway.
    pub tags: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Value of its label `kuma.io/workload`.
    pub workload: Option<&'a str>,
    /// Whether its SPIFFE identity follows from that label, so that the token has to name the workload.
    pub identity_from_workload: bool,
}

impl Dataplane {
    /// Whether the token is for this proxy.
    ///
    /// # Errors
    /// What differs, in Kuma's words.
    pub fn admits(&self, proxy: &Proxy<'_>) -> Result<(), String> {
        if !self.name.is_empty() && self.name != proxy.name {
            return Err(format!("proxy name from requestor: {} is different than in token: {}", proxy.name, self.name));
        }
        if !self.mesh.is_empty() && self.mesh != proxy.mesh {
            return Err(format!("proxy mesh from requestor: {} is different than in token: {}", proxy.mesh, self.mesh));
        }
        for (tag, allowed) in &self.tags {
            let Some(values) = proxy.tags.get(&**tag) else {
                return Err(format!("dataplane has no tag {tag:?} required by the token"));
            };
            if let Some(value) = values.iter().find(|value| !allowed.iter().any(|allowed| allowed == *value)) {
                let quoted: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
                return Err(format!(
                    "dataplane contains tag {tag:?} with value {value:?} which is not allowed with this token. Allowed \
                     values in token are [{}]",
                    quoted.join(" ")
                ));
            }
        }
        self.admits_workload(proxy)
    }

    fn admits_workload(&self, proxy: &Proxy<'_>) -> Result<(), String> {
        match (&*self.workload, proxy.workload) {
            ("", Some(workload)) if proxy.identity_from_workload => Err(format!(
                "dataplane with \"kuma.io/workload\" label {workload:?} derives its identity from the workload, so it \
                 requires a workload-bound token"
            )),
            ("", _) => Ok(()),
            (_, None) => Err("dataplane has no workload label required by the token".to_owned()),
            (wanted, Some(workload)) if wanted != workload => Err(format!(
                "dataplane workload {workload:?} is not allowed with this token. Allowed workload in token is {wanted:?}"
            )),
            _ => Ok(()),
        }
    }
}

impl Zone {
    /// Whether the token is for somebody of this zone in this part.
    ///
    /// # Errors
    /// What differs, in Kuma's words.
    pub fn admits(&self, zone: &str, scope: &str) -> Result<(), String> {
        if !self.scope.iter().any(|given| given == scope) {
            let given = self.scope.join(" ");
            return Err(format!(
                "token cannot be used to authenticate zone entity ({scope} is out of token's scope: [{given}])"
            ));
        }
        if !self.zone.is_empty() && self.zone != zone {
            return Err(format!("zone from requestor: {zone} is different than in token: {}", self.zone));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{SCOPE_CONTROL_PLANE, SCOPE_EGRESS, SCOPE_INGRESS};

    fn proxy() -> Proxy<'static> {
        Proxy {
            name: "web-1",
            mesh: "default",
            tags: BTreeMap::from([("kuma.io/service", BTreeSet::from(["web", "web-api"]))]),
            workload: Some("web"),
            identity_from_workload: false,
        }
    }

    fn with_tag(tag: &str, values: &[&str]) -> Dataplane {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Dataplane { tags: BTreeMap::from([(tag.to_owned(), values)]), ..Dataplane::default() }
    }

    #[test]
    fn a_dataplane_token_admits_what_it_names() {
        for claims in [
            Dataplane::default(),
            Dataplane { name: "web-1".into(), mesh: "default".into(), workload: "web".into(), ..Dataplane::default() },
            with_tag("kuma.io/service", &["web", "web-api", "other"]),
        ] {
            assert_eq!(claims.admits(&proxy()), Ok(()));
        }
        for (claims, why) in [
            (
                Dataplane { name: "x".into(), ..Dataplane::default() },
                "proxy name from requestor: web-1 is different than in token: x",
            ),
            (
                Dataplane { mesh: "x".into(), ..Dataplane::default() },
                "proxy mesh from requestor: default is different than in token: x",
            ),
            (with_tag("version", &["1"]), r#"dataplane has no tag "version" required by the token"#),
            (
                with_tag("kuma.io/service", &["web", "b"]),
                "dataplane contains tag \"kuma.io/service\" with value \"web-api\" which is not allowed with this token. \
                 Allowed values in token are [\"web\" \"b\"]",
            ),
            (
                Dataplane { workload: "x".into(), ..Dataplane::default() },
                r#"dataplane workload "web" is not allowed with this token. Allowed workload in token is "x""#,
            ),
        ] {
            assert_eq!(claims.admits(&proxy()).unwrap_err(), why);
        }
        let derived = Proxy { identity_from_workload: true, ..proxy() };
        assert!(Dataplane::default().admits(&derived).unwrap_err().ends_with("requires a workload-bound token"));
        let unlabelled = Proxy { workload: None, ..proxy() };
        let bound = Dataplane { workload: "web".into(), ..Dataplane::default() };
        assert_eq!(bound.admits(&unlabelled).unwrap_err(), "dataplane has no workload label required by the token");
    }

    #[test]
    fn a_zone_token_admits_its_zone_and_scope() {
        let token = Zone { zone: "east".into(), scope: vec!["ingress".into(), "cp".into()] };
        assert_eq!(token.admits("east", SCOPE_CONTROL_PLANE), Ok(()));
        assert_eq!(
            token.admits("east", SCOPE_EGRESS).unwrap_err(),
            "token cannot be used to authenticate zone entity (egress is out of token's scope: [ingress cp])"
        );
        assert_eq!(
            token.admits("west", SCOPE_INGRESS).unwrap_err(),
            "zone from requestor: west is different than in token: east"
        );
        assert_eq!(Zone { zone: String::new(), ..token }.admits("west", SCOPE_INGRESS), Ok(()));
    }
}
