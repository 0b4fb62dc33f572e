//! `MeshTLS`: which TLS inbounds speak (api-and-kumactl 3.30).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::Kind;
use crate::resource::Meta;
use crate::spec::JsonSpec;
use crate::spec::check::{self, each};
use crate::spec::target_ref::{Allowed, Item, Policy, Rule, TargetKind, TargetRef, check_top, from_and_top_warnings};
use crate::spec::tls::{self, Cipher, Versions};
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// Which TLS the inbounds of the selected proxies speak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTls {
    /// The proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// What holds for calls of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Item<Conf>>>,
    /// What holds for incoming calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule<Conf>>>,
}

/// The TLS that is spoken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conf {
    /// Its versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<Versions>,
    /// Its ciphers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ciphers: Option<Vec<Cipher>>,
    /// Whether plain text is accepted as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

words!(
    /// Whether plain text is accepted beside TLS.
    open Mode { Permissive = "Permissive", Strict = "Strict" }
);

const TOP: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh, TargetKind::MeshSubset, TargetKind::Dataplane]);
const FROM: Allowed<'_> = Allowed::kinds(&[TargetKind::Mesh]);

impl Policy for MeshTls {
    const KIND: Kind = Kind::MeshTLS;

    type To = ();
    type From = Item<Conf>;
    type Rule = Rule<Conf>;

    fn target_ref(&self) -> Option<&TargetRef> {
        self.target_ref.as_ref()
    }

    fn from(&self) -> &[Item<Conf>] {
        self.from.as_deref().unwrap_or_default()
    }

    fn rules(&self) -> &[Rule<Conf>] {
        self.rules.as_deref().unwrap_or_default()
    }
}

impl JsonSpec for MeshTls {
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        check_top(self, meta, TOP, TOP, found);
        let spec = Path::of("spec");
        if !self.rules().is_empty() && !self.from().is_empty() {
            found.add(&spec, "field 'from' must be empty when 'rules' is defined");
        }
        let whole_mesh = self.top_kind() == TargetKind::Mesh;
        for (at, rule) in each(&spec.field("rules"), self.rules()) {
            rule.default.check(&at.field("default"), whole_mesh, found);
        }
        for (at, item) in each(&spec.field("from"), self.from()) {
            item.target_ref.check(&at.field("targetRef"), FROM, found);
            item.default.check(&at.field("default"), whole_mesh, found);
        }
    }

    fn warnings(&self, _: &Meta) -> Vec<String> {
        from_and_top_warnings(self)
    }
}

impl Conf {
    /// Versions and ciphers are for both ends of a connection, so they are a matter of the whole mesh.
    fn check(&self, at: &Path, whole_mesh: bool, found: &mut Violations) {
        if matches!(self.mode, Some(Mode::Other(_))) {
            found.add(&at.field("mode"), check::must_be_one_of("mode", &["Strict", "Permissive"]));
        }
        let of_mesh = |member: &str| format!("{member} can only be defined with top level targetRef kind: Mesh");
        let ciphers = self.tls_ciphers.as_deref().unwrap_or_default();
        let at_ciphers = at.field("tlsCiphers");
        if whole_mesh {
            tls::check_ciphers(&at_ciphers, "tlsCiphers", ciphers, found);
        } else if !ciphers.is_empty() {
            found.add(&at_ciphers, of_mesh("tlsCiphers"));
        }
        let at_version = at.field("tlsVersion");
        match &self.tls_version {
            Some(versions) if whole_mesh => versions.check(&at_version, found),
            Some(_) => found.add(&at_version, of_mesh("tlsVersion")),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_prints, warnings};

    fn faults(spec: Value) -> Vec<String> {
        crate::spec::testing::faults::<MeshTls>(spec)
    }

    #[test]
    fn nothing_need_be_said_but_not_in_two_ways() {
        assert!(faults(json!({})).is_empty());
        assert!(faults(json!({"rules": [{"default": {}}]})).is_empty());
        assert_eq!(
            faults(json!({"from": [{"targetRef": {"kind": "MeshSubset"}}], "rules": [{}]})),
            [
                "spec: field 'from' must be empty when 'rules' is defined",
                "spec.from[0].targetRef.kind: value 'MeshSubset' is not supported",
            ]
        );
    }

    #[test]
    fn versions_ciphers_and_modes_are_known() {
        let conf = json!({"mode": "Lax", "tlsCiphers": ["RC4"], "tlsVersion": {"min": "TLS14", "max": "SSL3"}});
        let versions = r#"must be one of ["TLSAuto", "TLS10", "TLS11", "TLS12", "TLS13"]"#;
        let ciphers = r#""ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305""#;
        for (list, spec) in [
            ("rules", json!({"rules": [{"default": conf}]})),
            ("from", json!({"from": [{"targetRef": {"kind": "Mesh"}, "default": conf}]})),
        ] {
            let at = format!("spec.{list}[0].default");
            assert_eq!(
                faults(spec),
                [
                    format!(r#"{at}.mode: "mode" must be one of ["Strict", "Permissive"]"#),
                    format!(r#"{at}.tlsCiphers: "tlsCiphers" must be one of [{ciphers}]"#),
                    format!(r#"{at}.tlsVersion.min: "min" {versions}"#),
                    format!(r#"{at}.tlsVersion.max: "max" {versions}"#),
                ]
            );
        }
    }

    #[test]
    fn the_oldest_version_is_not_above_the_newest() {
        let check =
            |min: &str, max: &str| faults(json!({"rules": [{"default": {"tlsVersion": {"min": min, "max": max}}}]}));
        assert_eq!(
            check("TLS13", "TLS12"),
            ["spec.rules[0].default.tlsVersion.min: min version must be lower than max"]
        );
        assert!(check("TLS12", "TLS12").is_empty() && check("TLS13", "TLSAuto").is_empty());
        assert!(check("TLSAuto", "TLS10").is_empty());
    }

    #[test]
    fn versions_and_ciphers_are_a_matter_of_the_whole_mesh() {
        let conf = json!({"tlsVersion": {}, "tlsCiphers": ["RC4"], "mode": "Strict"});
        let spec = json!({"targetRef": {"kind": "MeshSubset"}, "rules": [{"default": conf}]});
        assert_eq!(
            faults(spec),
            [
                "spec.rules[0].default.tlsCiphers: tlsCiphers can only be defined with top level targetRef kind: Mesh",
                "spec.rules[0].default.tlsVersion: tlsVersion can only be defined with top level targetRef kind: Mesh",
            ]
        );
        let spec =
            json!({"targetRef": {"kind": "Dataplane"}, "rules": [{"default": {"tlsCiphers": [], "mode": "Strict"}}]});
        assert!(faults(spec).is_empty());
    }

    #[test]
    fn from_is_warned_about() {
        let spec = json!({"from": [{"targetRef": {"kind": "Mesh"}}]});
        assert_eq!(warnings::<MeshTls>(spec), ["'from' field is deprecated, use 'rules' instead"]);
    }

    #[test]
    fn members_are_printed_in_the_declared_order() {
        assert_prints::<MeshTls>(
            r#"{"targetRef":{"kind":"Mesh"},"from":[{"targetRef":{"kind":"Mesh"},"default":{"tlsVersion":{"min":"TLS12",
                "max":"TLSAuto"},"tlsCiphers":["ECDHE-RSA-AES256-GCM-SHA384"],"mode":"Permissive"}}],"rules":[]}"#,
        );
        let versions: Versions = serde_json::from_value(json!({"max": "TLS13"})).unwrap();
        assert_eq!(serde_json::to_string(&versions).unwrap(), r#"{"min":"TLSAuto","max":"TLS13"}"#);
    }
}
