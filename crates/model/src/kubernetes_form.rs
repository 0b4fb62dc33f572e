//! Resources as Kubernetes users write them: `apiVersion`, `kind`, `mesh`, `metadata`, `spec`. They become the documents
//! of [`crate::rest_form`], so that every example of the real system's pages applies unchanged.
//!
//! A JSON kind names its mesh by the label `kuma.io/mesh`, an older kind by the member `mesh`; without either it is
//! `default`. Secrets are plain Kubernetes secrets of a type of their own, with the content below `data.value`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::kind::{Kind, Scope, UnknownKind};
use crate::labels;
use crate::spec::Encoding;

/// Group of all kinds but secrets.
const GROUP: &str = "kuma.io/";
/// Types of the secrets that are ours.
const SECRETS: [(&str, Kind); 2] =
    [("system.kuma.io/secret", Kind::Secret), ("system.kuma.io/global-secret", Kind::GlobalSecret)];

/// Why a document in the form of Kubernetes is no resource of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else lives in Kubernetes too.
    #[error("apiVersion: {0:?} is not {GROUP}v1alpha1")]
    OtherGroup(String),
    /// Not a kind of ours.
    #[error("kind: {0}")]
    UnknownKind(#[from] UnknownKind),
    /// A secret of another owner.
    #[error("type: a Secret has to be of type system.kuma.io/secret or system.kuma.io/global-secret")]
    OtherSecret,
    /// A secret without content.
    #[error("data.value: has to be the content, in base64; or stringData.value, as it is")]
    NoContent,
    /// No name.
    #[error("metadata.name: has to be a text that is not empty")]
    NoName,
}

/// Whether a document is in the form of Kubernetes.
pub fn is_one(document: &Value) -> bool {
    let has = |key| document.get(key).is_some_and(Value::is_string);
    has("apiVersion") && has("kind")
}

/// The same document as the REST API takes it.
///
/// # Errors
/// It is not one of ours, or has no name.
pub fn to_rest(document: &Value) -> Result<Value, Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let group = text(&document["apiVersion"]);
    let metadata = &document["metadata"];
    let name = Some(text(&metadata["name"])).filter(|name| !name.is_empty()).ok_or(Error::NoName)?;
    let (kind, content) = match group.as_str() {
        "v1" if document["kind"] == "Secret" => secret(document)?,
        group if group.starts_with(GROUP) => {
            let kind: Kind = text(&document["kind"]).parse()?;
            (kind, document.get("spec").cloned().unwrap_or_else(|| json!({})))
        }
        _ => return Err(Error::OtherGroup(group)),
    };
    let mut rest = Map::new();
    rest.insert("type".to_owned(), kind.name().into());
    if kind.info().scope == Scope::Mesh {
        let named = [&metadata["labels"][labels::MESH], &document["mesh"]].into_iter().find_map(Value::as_str);
        rest.insert("mesh".to_owned(), named.unwrap_or("default").into());
    }
    rest.insert("name".to_owned(), name.into());
    if let Some(labels) = metadata.get("labels") {
        rest.insert("labels".to_owned(), labels.clone());
    }
    match (kind.info().codec.encoding, content) {
        (Encoding::Proto { .. }, Value::Object(members)) => rest.extend(members),
        (_, content) => {
            rest.insert("spec".to_owned(), content);
        }
    }
    Ok(Value::Object(rest))
}

/// Where a field of the REST form stands in this one: `networking` of a Dataplane is `spec.networking`.
pub fn path(kind: Kind, field: &str) -> String {
    let first = field.split(['.', '[']).next().unwrap_or_default();
    match (first, kind.info().codec.encoding) {
        ("", _) | ("mesh" | "spec", Encoding::Json) | ("mesh", Encoding::Proto { .. }) => field.to_owned(),
        ("name" | "labels", _) => format!("metadata.{field}"),
        ("type", _) => "kind".to_owned(),
        ("data", _) if matches!(kind, Kind::Secret | Kind::GlobalSecret) => "data.value".to_owned(),
        _ => format!("spec.{field}"),
    }
}

fn secret(document: &Value) -> Result<(Kind, Value), Error> {
    let of_type = |(name, _): &&(&str, Kind)| document["type"] == *name;
    let (_, kind) = SECRETS.iter().find(of_type).ok_or(Error::OtherSecret)?;
    let encoded = document["data"]["value"].as_str().map(str::to_owned);
    let plain = || document["stringData"]["value"].as_str().map(|text| STANDARD.encode(text));
    let data = encoded.or_else(plain).ok_or(Error::NoContent)?;
    Ok((*kind, json!({"data": data})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_come_from_one_form() {
        let policy = json!({
            "apiVersion": "kuma.io/v1alpha1", "kind": "MeshTimeout",
            "metadata": {"name": "t", "namespace": "kuma-system", "labels": {"kuma.io/mesh": "m1"}},
            "spec": {"to": []},
        });
        assert!(is_one(&policy));
        let wanted = json!({"type": "MeshTimeout", "mesh": "m1", "name": "t", "labels": {"kuma.io/mesh": "m1"}, "spec": {"to": []}});
        assert_eq!(to_rest(&policy), Ok(wanted));

        let mesh = json!({"apiVersion": "kuma.io/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"}});
        assert_eq!(to_rest(&mesh), Ok(json!({"type": "Mesh", "name": "default"})));

        let route = json!({"apiVersion": "kuma.io/v1alpha1", "kind": "TrafficRoute", "mesh": "m2", "metadata": {"name": "r"},
            "spec": {"sources": [{"match": {"a": "b"}}]}});
        let wanted = json!({"type": "TrafficRoute", "mesh": "m2", "name": "r", "sources": [{"match": {"a": "b"}}]});
        assert_eq!(to_rest(&route), Ok(wanted));
    }

    #[test]
    fn a_secret_is_a_secret_of_kubernetes() {
        let secret = |of_type, content: Value| {
            let mut document = json!({"apiVersion": "v1", "kind": "Secret", "type": of_type,
                "metadata": {"name": "s", "labels": {"kuma.io/mesh": "m1"}}});
            document.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
            to_rest(&document)
        };
        let wanted =
            json!({"type": "Secret", "mesh": "m1", "name": "s", "labels": {"kuma.io/mesh": "m1"}, "data": "eA=="});
        assert_eq!(secret("system.kuma.io/secret", json!({"data": {"value": "eA=="}})), Ok(wanted.clone()));
        assert_eq!(secret("system.kuma.io/secret", json!({"stringData": {"value": "x"}})), Ok(wanted));
        assert_eq!(secret("system.kuma.io/global-secret", json!({})), Err(Error::NoContent));
        assert_eq!(secret("Opaque", json!({"data": {"value": "eA=="}})), Err(Error::OtherSecret));
    }

    #[test]
    fn a_field_of_the_other_form_is_found() {
        assert_eq!(path(Kind::Dataplane, "networking.inbound[0]"), "spec.networking.inbound[0]");
        assert_eq!(path(Kind::MeshTimeout, "spec.to[0]"), "spec.to[0]");
        assert_eq!(path(Kind::Mesh, r#"labels["a"]"#), r#"metadata.labels["a"]"#);
        assert_eq!(path(Kind::Secret, "data"), "data.value");
        assert_eq!(path(Kind::Secret, "mesh"), "mesh");
    }

    #[test]
    fn what_is_not_ours_is_refused_by_member() {
        let reason = |document| to_rest(&document).unwrap_err().to_string();
        assert_eq!(
            reason(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}})),
            "apiVersion: \"apps/v1\" is not kuma.io/v1alpha1"
        );
        assert_eq!(
            reason(json!({"apiVersion": "kuma.io/v1alpha1", "kind": "Nope", "metadata": {"name": "d"}})),
            "kind: unknown kind \"Nope\""
        );
        assert_eq!(
            reason(json!({"apiVersion": "kuma.io/v1alpha1", "kind": "Mesh"})),
            "metadata.name: has to be a text that is not empty"
        );
        assert!(!is_one(&json!({"type": "Mesh", "name": "a"})));
    }
}
