//! Changes to a JSON document, after RFC 6902.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::spec::check::{MUST_BE_DEFINED, each, must_be_one_of};
use crate::spec::free_form::FreeForm;
use crate::spec::words::words;
use crate::violation::{Path, Violations};

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonPatchBlock {
    /// What is done.
    pub op: Op,
    /// Where.
    #[schemars(required)]
    pub path: Option<String>,
    /// What is put there by `add` and `replace`; may be `null`.
    #[serde(default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    pub value: Option<FreeForm>,
    /// Where `move` and `copy` take it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

words!(
    /// What a change does.
    open Op { Add = "add", Remove = "remove", Replace = "replace", Move = "move", Copy = "copy" }
);

fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FreeForm>, D::Error> {
    FreeForm::deserialize(deserializer).map(Some)
}

/// Checks a list of changes that is not empty.
pub fn check(at: &Path, changes: &[JsonPatchBlock], found: &mut Violations) {
    for (at, change) in each(at, changes) {
        change.check(&at, found);
    }
}

impl JsonPatchBlock {
    fn check(&self, at: &Path, found: &mut Violations) {
        let Self { op, path, value, from } = self;
        if matches!(op, Op::Other(_)) {
            found.add(&at.field("op"), must_be_one_of("op", &["add", "remove", "replace", "move", "copy"]));
        }
        let presence = [
            ("from", from.is_some(), matches!(op, Op::Move | Op::Copy), r#"["move", "copy"]"#),
            ("value", value.is_some(), matches!(op, Op::Add | Op::Replace), r#"["add", "replace"]"#),
        ];
        for (member, is_there, belongs_there, ops) in presence {
            if is_there != belongs_there {
                let verdict = if is_there { "is allowed only" } else { "must not be empty" };
                found.add(&at.field(member), format!(r#""{member}" {verdict} when "op" is one of {ops}"#));
            }
        }
        match path.as_deref() {
            None => found.add(&at.field("path"), MUST_BE_DEFINED),
            Some("" | "/") if *op == Op::Remove => found.add(&at.field("path"), "root path cannot be removed"),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(change: &str) -> String {
        let change: JsonPatchBlock = serde_json::from_str(change).unwrap();
        let mut found = Violations::default();
        check(&Path::of("p"), &[change], &mut found);
        found.to_string()
    }

    #[test]
    fn what_an_operation_needs_is_there_and_nothing_else() {
        for (change, expected) in [
            (r#"{"op":"add","path":"/a","value":null}"#, ""),
            (r#"{"op":"replace","path":"","value":{"b":[1]}}"#, ""),
            (r#"{"op":"remove","path":"/a"}"#, ""),
            (r#"{"op":"move","path":"/a","from":""}"#, ""),
            (
                r#"{"op":"test","path":"/"}"#,
                r#"p[0].op: "op" must be one of ["add", "remove", "replace", "move", "copy"]"#,
            ),
            (
                r#"{"op":"add","path":"/a","from":"/b"}"#,
                r#"p[0].from: "from" is allowed only when "op" is one of ["move", "copy"]; p[0].value: "value" must not be empty when "op" is one of ["add", "replace"]"#,
            ),
            (
                r#"{"op":"copy","value":1}"#,
                r#"p[0].from: "from" must not be empty when "op" is one of ["move", "copy"]; p[0].value: "value" is allowed only when "op" is one of ["add", "replace"]; p[0].path: must be defined"#,
            ),
            (r#"{"op":"remove","path":"/"}"#, "p[0].path: root path cannot be removed"),
        ] {
            assert_eq!(faults(change), expected, "{change}");
        }
    }

    #[test]
    fn a_null_is_a_value() {
        let text = r#"{"op":"add","path":"/a","value":null}"#;
        assert_eq!(serde_json::to_string(&serde_json::from_str::<JsonPatchBlock>(text).unwrap()).unwrap(), text);
    }

    #[test]
    fn the_schema_demands_a_path() {
        let schema = serde_json::to_value(schemars::schema_for!(JsonPatchBlock)).unwrap();
        assert_eq!(schema["required"], serde_json::json!(["op", "path"]));
    }
}
