//! `?format=kubernetes`: a resource as the object that the real system would keep on Kubernetes (api-and-kumactl 1.9).

use chrono::SecondsFormat;
use model::kind::Scope;
use model::spec::{Encoding, SpecError};
use model::{Kind, Resource, labels};
use serde_json::{Map, Value, json};

/// The object, in a namespace where its kind lives in one.
pub fn object(resource: &Resource, namespace: &str) -> Result<Value, SpecError> {
    let meta = &resource.meta;
    let info = resource.kind().info();
    let is_json = info.codec.encoding == Encoding::Json;
    let is_secret = matches!(resource.kind(), Kind::Secret | Kind::GlobalSecret);
    let mut metadata = Map::new();
    metadata.insert("name".into(), (*meta.key.name).into());
    if is_json || is_secret || is_proxy(resource.kind()) {
        metadata.insert("namespace".into(), namespace.into());
    }
    metadata.insert("creationTimestamp".into(), meta.created.to_rfc3339_opts(SecondsFormat::Secs, true).into());
    let in_mesh = info.scope == Scope::Mesh;
    if in_mesh && (is_json || is_secret) {
        metadata.insert("labels".into(), json!({ labels::MESH: *meta.key.mesh }));
    }
    let mut object = Map::new();
    object.insert("kind".into(), if is_secret { "Secret" } else { info.name }.into());
    object.insert("apiVersion".into(), if is_secret { "v1" } else { "kuma.io/v1alpha1" }.into());
    if in_mesh && !is_json && !is_secret {
        object.insert("mesh".into(), (*meta.key.mesh).into());
    }
    object.insert("metadata".into(), metadata.into());
    if is_secret {
        let content = (info.codec.to_json)(resource.spec.bytes())?;
        object.insert("data".into(), json!({"value": content.get("data").cloned().unwrap_or_else(|| "".into())}));
        let kind = if resource.kind() == Kind::Secret { "secret" } else { "global-secret" };
        object.insert("type".into(), format!("system.kuma.io/{kind}").into());
    } else {
        object.insert("spec".into(), (info.codec.to_json)(resource.spec.bytes())?);
    }
    if let Some(status) = &resource.status {
        object.insert("status".into(), serde_json::from_slice(status.bytes())?);
    }
    Ok(Value::Object(object))
}

/// Older kinds that live in a namespace all the same.
fn is_proxy(kind: Kind) -> bool {
    matches!(kind, Kind::Dataplane | Kind::ZoneIngress | Kind::ZoneEgress)
        || Kind::ALL.iter().any(|of| of.info().insight.is_some_and(|(insight, _)| insight == kind && *of != Kind::Zone))
}

#[cfg(test)]
mod tests {
    use model::{Key, Labels, Payload};

    use super::*;

    fn shown(kind: Kind, document: Value) -> Value {
        let spec = (kind.info().codec.from_json)(document).unwrap();
        object(&Resource::new(Key::new(kind, "default", "a"), Labels::default(), Payload::from_bytes(spec)), "ns")
            .unwrap()
    }

    #[test]
    fn secrets_policies_and_older_kinds_each_have_their_form() {
        let time = "1970-01-01T00:00:00Z";
        assert_eq!(
            shown(Kind::Secret, json!({"data": "dGVzdA=="})),
            json!({"kind": "Secret", "apiVersion": "v1", "type": "system.kuma.io/secret", "data": {"value": "dGVzdA=="},
                "metadata": {"name": "a", "namespace": "ns", "creationTimestamp": time, "labels": {"kuma.io/mesh": "default"}}})
        );
        assert_eq!(
            shown(Kind::Zone, json!({"enabled": true})),
            json!({"kind": "Zone", "apiVersion": "kuma.io/v1alpha1", "spec": {"enabled": true},
                "metadata": {"name": "a", "creationTimestamp": time}})
        );
        let route = shown(Kind::TrafficLog, json!({"conf": {"backend": "b"}}));
        assert_eq!((&route["mesh"], route["metadata"].get("namespace")), (&json!("default"), None));
        assert_eq!(shown(Kind::Dataplane, json!({}))["metadata"]["namespace"], "ns");
    }
}
