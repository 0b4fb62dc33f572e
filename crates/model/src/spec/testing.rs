//! What the tests of the JSON kinds have in common.

use serde_json::Value;

use crate::kind::Kind;
use crate::labels::{self, Labels};
use crate::resource::{Key, Meta};
use crate::spec::JsonSpec;
use crate::violation::Violations;

/// A resource that a user wrote on the global.
pub fn meta() -> Meta {
    Meta::new(Key::new(Kind::MeshTimeout, "default", "example"), Labels::default())
}

/// A resource that a user of Kubernetes wrote in a namespace of their own.
pub fn consumer_meta() -> Meta {
    let labels = [(labels::POLICY_ROLE, "consumer")].into_iter().collect();
    Meta { labels, ..meta() }
}

/// What a kind finds wrong with content: `field: reason` each.
#[track_caller]
pub fn faults<S: JsonSpec>(spec: Value) -> Vec<String> {
    faults_of::<S>(spec, &meta())
}

/// What a kind finds wrong with the content of this resource.
#[track_caller]
pub fn faults_of<S: JsonSpec>(spec: Value, meta: &Meta) -> Vec<String> {
    let spec: S = serde_json::from_value(spec).unwrap();
    let mut found = Violations::default();
    spec.validate(meta, &mut found);
    found.into_iter().map(|fault| format!("{}: {}", fault.field, fault.reason)).collect()
}

/// What a kind says of content that it accepts.
#[track_caller]
pub fn warnings<S: JsonSpec>(spec: Value) -> Vec<String> {
    serde_json::from_value::<S>(spec).unwrap().warnings(&meta())
}

/// Checks that content is printed as it is written here: members, their order, their values.
#[track_caller]
pub fn assert_prints<S: JsonSpec>(spec: &str) {
    let read: S = serde_json::from_str(spec).unwrap();
    let compact = serde_json::from_str::<Value>(spec).unwrap().to_string();
    assert_eq!(serde_json::to_string(&read).unwrap(), compact);
}
