//! The schema of the JSON kinds: what it fills in and what it refuses, in the words of the real control plane.
//!
//! Source: api-and-kumactl 1.4. A body is parsed, [`Schema::fill_defaults`] completes it, [`Schema::check`] refuses
//! what has the wrong shape; only then is it decoded and the kind's own rules ([`crate::spec::JsonSpec::validate`])
//! run. KDS skips all of this.
//!
//! The schema of a kind is derived from its Rust type by `schemars`. What of a type counts:
//!
//! | in the type | in the schema |
//! |---|---|
//! | a field that is neither `Option` nor has a default | required; faults of one object are listed by name |
//! | `Option<T>`, or `#[serde(default, skip_serializing_if = ..)]` | optional `T`; an explicit `null` is of the wrong type |
//! | `#[serde(default = "..")]` whose value is serialised | default, filled in where the field is missing or `null` |
//! | `#[schemars(extend("default" = ..))]` on an `Option<T>` | the same, for a field that KDS may lack |
//! | a `choice!`, or an enum of unit variants | `should be one of [..]`, in the order of the variants |
//! | `#[schemars(range(min = .., max = ..))]` | the bounds; bounds that come with an unsigned type say nothing |
//! | `#[schemars(length(min = .., max = ..))]` | characters of a text, items of a list, entries of a map |
//! | `#[schemars(regex(pattern = ".."))]` | `should match '..'` |
//! | integers up to 32 bits; 64 bits | format `int32`; `int64` |
//! | `BTreeMap<String, T>` | every entry is a `T` |
//! | an untagged enum | at least one variant has to fit; this is how int-or-string is said |
//! | `serde_json::Value` | anything |
//!
//! A number that Kuma bounds by 0 from below is a signed type with `range(min = 0)`.

mod check;
mod node;

use std::sync::{LazyLock, OnceLock};

use serde_json::{Map, Value, json};

use crate::kind::{Kind, Scope};
use crate::violation::{Path, Violations};

use check::Faults;
use node::Node;

/// Faults after which a document is not looked at any further.
const MOST_FAULTS: usize = 1000;

/// Schema of the whole document of one JSON kind.
#[derive(Debug)]
pub struct Schema(Node);

impl Schema {
    /// Schema of a kind, compiled once; proto kinds have none.
    pub fn of(kind: Kind) -> Option<&'static Self> {
        static COMPILED: LazyLock<Vec<OnceLock<Schema>>> =
            LazyLock::new(|| Kind::ALL.iter().map(|_| OnceLock::new()).collect());
        let spec = kind.info().codec.schema?;
        let compiled = COMPILED.get(kind as usize)?;
        Some(compiled.get_or_init(|| Self::compile(kind, spec().as_value())))
    }

    /// Completes a document with the defaults of its kind, at every depth.
    pub fn fill_defaults(&self, document: &mut Value) {
        self.0.fill_defaults(document);
    }

    /// Adds everything in a document that is not as the schema says. A field below `spec` is named by its path; a
    /// fault elsewhere has no field and begins with the path instead.
    pub fn check(&self, document: &Value, found: &mut Violations) {
        let mut faults = Faults::up_to(MOST_FAULTS);
        self.0.check(document, "", &mut faults);
        for fault in faults.into_messages() {
            match fault.split_once(' ') {
                Some((field, reason)) if field.starts_with("spec.") => found.add(&Path::of(field), reason),
                _ => found.add(&Path::root(), fault),
            }
        }
    }

    fn compile(kind: Kind, spec: &Value) -> Self {
        let text = || json!({"type": "string"});
        let time = || json!({"type": "string", "format": "date-time"});
        let mut properties = Map::new();
        properties.insert("type".into(), json!({"type": "string", "enum": [kind.name()]}));
        if kind.info().scope == Scope::Mesh {
            properties.insert("mesh".into(), json!({"type": "string", "default": "default"}));
        }
        properties.insert("name".into(), text());
        properties.insert("creationTime".into(), time());
        properties.insert("modificationTime".into(), time());
        properties.insert("labels".into(), json!({"type": "object", "additionalProperties": text()}));
        properties.insert("kri".into(), text());
        properties.insert("spec".into(), spec.clone());
        if kind.info().status.is_some() {
            properties.insert("status".into(), json!({"type": "object"}));
        }
        let document = json!({"type": "object", "properties": properties});
        Self(Node::compile(&document).requiring(["type", "name", "spec"]))
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;

    /// Where it stays.
    #[derive(Serialize, Deserialize, JsonSchema)]
    enum State {
        /// There.
        Available,
        /// Not there.
        Unavailable,
    }

    fn unavailable() -> State {
        State::Unavailable
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(untagged)]
    enum IntOrString {
        Int(i32),
        String(String),
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    struct Port {
        #[schemars(range(min = 1, max = 8_000_000))]
        port: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(extend("default" = "tcp"))]
        app_protocol: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        target_port: Option<IntOrString>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase")]
    struct Example {
        #[schemars(length(min = 1, max = 2))]
        ports: Vec<Port>,
        #[serde(default = "unavailable")]
        state: State,
        #[serde(skip_serializing_if = "Option::is_none")]
        maybe: Option<State>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 2), regex(pattern = "^[a-z]+$"))]
        host: Option<String>,
        #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
        tags: std::collections::BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anything: Option<Value>,
        alpha: bool,
    }

    fn schema() -> Schema {
        let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        Schema::compile(Kind::MeshService, settings.into_generator().into_root_schema_for::<Example>().as_value())
    }

    fn document(spec: Value) -> Value {
        json!({"type": "MeshService", "mesh": "default", "name": "a", "spec": spec})
    }

    fn faults(document: &Value) -> Vec<String> {
        let mut found = Violations::default();
        schema().check(document, &mut found);
        found.iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
    }

    fn spec_faults(spec: Value) -> Vec<String> {
        faults(&document(spec))
    }

    #[test]
    fn a_good_document_has_no_faults() {
        let good = json!({"ports": [{"port": 1, "targetPort": "http"}, {"port": 2, "targetPort": 3}],
            "state": "Available", "alpha": true, "tags": {"a": "b"}, "unknown": 1, "anything": null});
        assert_eq!(spec_faults(good), [""; 0]);
    }

    #[test]
    fn the_document_itself_is_checked() {
        assert_eq!(
            faults(&json!({})),
            [": .type in body is required", ": .name in body is required", ": .spec in body is required"]
        );
        let wrong = json!({"type": "MeshRetry", "name": 1, "labels": {"a": 2}, "spec": "x"});
        assert_eq!(
            faults(&wrong),
            [
                ": type in body should be one of [MeshService]",
                ": name in body must be of type string: \"number\"",
                ": labels.a in body must be of type string: \"number\"",
                ": spec in body must be of type object: \"string\"",
            ]
        );
        assert_eq!(
            faults(
                &json!({"type": "MeshService", "name": "a", "creationTime": "soon", "spec": {"ports": [{"port": 1}], "alpha": true}})
            ),
            [": creationTime in body must be of type date-time: \"soon\""]
        );
    }

    #[test]
    fn missing_members_are_listed_by_name_after_the_faults_of_members() {
        assert_eq!(spec_faults(json!({})), ["spec.alpha: in body is required", "spec.ports: in body is required"]);
        assert_eq!(
            spec_faults(json!({"ports": [{}]})),
            ["spec.ports[0].port: in body is required", "spec.alpha: in body is required"]
        );
    }

    #[test]
    fn numbers_and_lengths_have_bounds() {
        let fault = |port: Value| spec_faults(json!({"alpha": true, "ports": [{"port": port}]}));
        assert_eq!(fault(json!(0)), ["spec.ports[0].port: in body should be greater than or equal to 1"]);
        assert_eq!(fault(json!(9_000_000)), ["spec.ports[0].port: in body should be less than or equal to 8e+06"]);
        assert_eq!(
            spec_faults(json!({"alpha": true, "ports": []})),
            ["spec.ports: in body should have at least 1 items"]
        );
        let three = json!([{"port": 1}, {"port": 1}, {"port": 1}]);
        assert_eq!(
            spec_faults(json!({"alpha": true, "ports": three})),
            ["spec.ports: in body should have at most 2 items"]
        );
        let host = |host: &str| spec_faults(json!({"alpha": true, "ports": [{"port": 1}], "host": host}));
        assert_eq!(host("a"), ["spec.host: in body should be at least 2 chars long"]);
        assert_eq!(host("A1"), ["spec.host: in body should match '^[a-z]+$'"]);
    }

    #[test]
    fn the_bounds_of_an_unsigned_type_say_nothing() {
        assert_eq!(spec_faults(json!({"alpha": true, "ports": [{"port": 1}], "count": -1})), [""; 0]);
        assert_eq!(
            spec_faults(json!({"alpha": true, "ports": [{"port": 1}], "count": 3e9})),
            [": Checked value must be of type integer with format int32 in spec.count"]
        );
    }

    #[test]
    fn a_wrong_type_is_named_as_go_names_it() {
        let fault = |count: Value| spec_faults(json!({"alpha": true, "ports": [{"port": 1}], "count": count}));
        assert_eq!(fault(json!("1")), ["spec.count: in body must be of type integer: \"string\""]);
        assert_eq!(fault(json!([1])), ["spec.count: in body must be of type integer: \"array\""]);
        assert_eq!(fault(json!(true)), ["spec.count: in body must be of type int32: \"\""]);
        assert_eq!(fault(json!(null)), ["spec.count: in body must be of type integer: \"null\""]);
        assert_eq!(
            fault(json!(1.5)),
            [
                "spec.count: in body must be of type int32: \"float64\"",
                ": Checked value must be of type integer with format int32 in spec.count"
            ]
        );
        assert_eq!(
            spec_faults(json!({"alpha": "yes", "ports": {}, "state": 5})),
            [
                "spec.ports: in body must be of type array: \"object\"",
                "spec.state: in body must be of type string: \"number\"",
                "spec.state: in body should be one of [Available Unavailable]",
                "spec.alpha: in body must be of type boolean: \"string\"",
            ]
        );
    }

    #[test]
    fn an_optional_choice_is_a_choice() {
        assert_eq!(
            spec_faults(json!({"alpha": true, "ports": [{"port": 1}], "maybe": "X"})),
            ["spec.maybe: in body should be one of [Available Unavailable]"]
        );
    }

    #[test]
    fn one_of_several_shapes_has_to_fit() {
        assert_eq!(
            spec_faults(json!({"alpha": true, "ports": [{"port": 1, "targetPort": []}]})),
            [
                ": \"spec.ports[0].targetPort\" must validate at least one schema (anyOf)",
                "spec.ports[0].targetPort: in body must be of type integer: \"array\"",
            ]
        );
    }

    #[test]
    fn defaults_are_filled_in_at_every_depth() {
        let mut document = json!({"type": "MeshService", "name": "a", "spec": {"ports": [{"port": 1}, {"port": 2, "appProtocol": null}]}});
        schema().fill_defaults(&mut document);
        assert_eq!(document["mesh"], "default");
        assert_eq!(document["spec"]["state"], "Unavailable");
        assert_eq!(document["spec"]["ports"][0]["appProtocol"], "tcp");
        assert_eq!(document["spec"]["ports"][1]["appProtocol"], "tcp");
        assert_eq!(document["spec"].get("count"), None);
        assert_eq!(document["spec"].get("tags"), None);
    }

    #[test]
    fn faults_are_bounded() {
        let ports = vec![json!({}); 10 * MOST_FAULTS];
        assert_eq!(spec_faults(json!({"alpha": true, "ports": ports})).len(), MOST_FAULTS);
    }

    #[test]
    fn every_kind_with_a_schema_compiles_and_every_pattern_is_understood() {
        for kind in Kind::ALL.iter().copied() {
            let Some(schema) = Schema::of(kind) else { continue };
            assert_eq!(schema.0.patterns_not_understood(), [""; 0], "{kind}");
        }
        assert!(Schema::of(Kind::Dataplane).is_none());
    }
}
