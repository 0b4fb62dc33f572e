//! What the tests of the kinds have in common.

use serde_json::Value;

use crate::kind::Kind;
use crate::labels::Labels;
use crate::resource::{Key, Meta};
use crate::spec::JsonSpec;
use crate::violation::Violations;

/// Meta of a resource with this name and these labels.
pub fn meta(kind: Kind, name: &str, labels: &[(&str, &str)]) -> Meta {
    let labels: Value = labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    let labels: Labels = serde_json::from_value(labels).unwrap();
    Meta::new(Key::new(kind, "default", name), labels)
}

/// What the kind's own rules say of a document, `field: reason` each.
pub fn faults<S: JsonSpec>(document: &str, meta: &Meta) -> Vec<String> {
    let spec: S = serde_json::from_str(document).unwrap_or_else(|fault| panic!("{document}: {fault}"));
    let mut found = Violations::default();
    spec.validate(meta, &mut found);
    found.into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
}

/// The faults of each document, the expected ones one a line.
pub fn assert_faults<S: JsonSpec>(kind: Kind, cases: &[(&str, &str)]) {
    for (document, expected) in cases {
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(faults::<S>(document, &meta(kind, "x", &[])), expected, "{document}");
    }
}

/// What the kind says of a document that it accepts.
pub fn warnings<S: JsonSpec>(kind: Kind, document: &str) -> Vec<String> {
    serde_json::from_str::<S>(document).unwrap().warnings(&meta(kind, "x", &[]))
}

/// The JSON in which a document is printed.
pub fn assert_printed<S: JsonSpec>(document: &str, expected: &str) {
    let spec: S = serde_json::from_str(document).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), expected);
}

/// What a proto kind's own rules say of a document, `field: reason` each.
pub fn proto_faults(kind: Kind, document: Value) -> Vec<String> {
    let codec = &kind.info().codec;
    let content = (codec.from_json)(document).unwrap();
    let mut found = Violations::default();
    (codec.validate)(&content, &meta(kind, "x", &[]), &mut found).unwrap();
    found.into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
}

/// A document with the sources and destinations that every policy between services accepts.
pub fn between_services(mut document: Value) -> Value {
    let any = serde_json::json!([{"match": {"kuma.io/service": "*"}}]);
    document["sources"] = any.clone();
    document["destinations"] = any;
    document
}
