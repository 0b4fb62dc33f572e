//! Recorded messages of the real system, decoded and encoded again (`tests/recorded/README.md`).

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::json;
use kds_proto::kuma::mesh::v1alpha1::{
    ClustersRequest, ClustersResponse, KumaResource, Mesh, StatsRequest, StatsResponse, XdsConfigRequest,
    XdsConfigResponse, ZoneHealthCheckRequest, ZoneHealthCheckResponse,
};
use kds_proto::{Any, KUMA_RESOURCE_TYPE_URL};
use prost::{Message, Name};
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

/// What became of the messages, to show that the cases were there.
#[derive(Debug, Default, PartialEq)]
struct Count {
    same_bytes: usize,
    other_map_order: usize,
    undecodable: usize,
}

#[test]
fn every_message_encodes_to_the_bytes_it_came_from() {
    let mut count = Count::default();
    for message in lines("messages.jsonl") {
        let raw = bytes(&message["raw"]);
        let from = message["from"].as_str().unwrap();
        match message["type"].as_str().unwrap() {
            "envoy.service.discovery.v3.DeltaDiscoveryRequest" => {
                check::<DeltaDiscoveryRequest>(&raw, from, &mut count)
            }
            "envoy.service.discovery.v3.DeltaDiscoveryResponse" => {
                check::<DeltaDiscoveryResponse>(&raw, from, &mut count);
                let response = DeltaDiscoveryResponse::decode(raw.as_slice()).unwrap();
                for resource in response.resources {
                    let packed = resource.resource.unwrap();
                    assert_eq!(packed.type_url, KUMA_RESOURCE_TYPE_URL, "KDS-35, {from}");
                    check::<KumaResource>(&packed.value, from, &mut count);
                    check_content(&packed.value, from, &mut count);
                }
            }
            "kuma.mesh.v1alpha1.XDSConfigRequest" => check::<XdsConfigRequest>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.XDSConfigResponse" => check::<XdsConfigResponse>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.StatsRequest" => check::<StatsRequest>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.StatsResponse" => check::<StatsResponse>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.ClustersRequest" => check::<ClustersRequest>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.ClustersResponse" => check::<ClustersResponse>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.ZoneHealthCheckRequest" => check::<ZoneHealthCheckRequest>(&raw, from, &mut count),
            "kuma.mesh.v1alpha1.ZoneHealthCheckResponse" => check::<ZoneHealthCheckResponse>(&raw, from, &mut count),
            other => panic!("{from}: no test for {other}"),
        }
    }
    // The one undecodable spec was damaged on purpose (10h). Only the Node of a request has a map whose order varies.
    assert_eq!(count.undecodable, 1);
    assert!(count.same_bytes > 2000, "{count:?}");
}

/// KDS-36: the bytes of every recorded resource say, in our schema, what the real system says they say.
#[test]
fn every_resource_reads_as_the_real_system_reads_it() {
    let mut kinds = std::collections::BTreeSet::new();
    for line in lines("resources.jsonl") {
        let what = format!("{} {}", line["type"], line["name"]);
        let resource = KumaResource::decode(bytes(&line["raw"]).as_slice()).unwrap();
        let meta = resource.meta.unwrap();
        let mut said = json!({"name": meta.name});
        if !meta.mesh.is_empty() {
            said["mesh"] = meta.mesh.into();
        }
        if !meta.labels.is_empty() {
            said["labels"] = json!(meta.labels);
        }
        assert_eq!(said, line["meta"], "{what}");
        assert_eq!(opened(&resource.spec.unwrap(), &line["spec"]), line["spec"], "{what}");
        match resource.status {
            Some(status) => assert_eq!(opened(&status, &line["status"]), line["status"], "{what}"),
            None => assert_eq!(line.get("status"), None, "{what}"),
        }
        kinds.insert(line["type"].as_str().unwrap().to_owned());
    }
    assert!(kinds.len() >= 40, "only {} kinds: {kinds:?}", kinds.len());
}

/// KDS-36: a spec is carried as it came, with fields that our schema lacks.
#[test]
fn a_forwarded_spec_keeps_unknown_fields() {
    let mut value = Mesh::default().encode_to_vec();
    prost::encoding::string::encode(9999, &"from a newer version".to_owned(), &mut value);
    let spec = Any { type_url: Mesh::type_url(), value: value.into() };
    let sent = KumaResource { spec: Some(spec), ..KumaResource::default() }.encode_to_vec();
    let forwarded = KumaResource::decode(sent.as_slice()).unwrap();
    assert_eq!(json::to_value(&Mesh::full_name(), &forwarded.spec.as_ref().unwrap().value).unwrap(), json!({}));
    assert_eq!(forwarded.encode_to_vec(), sent);
}

/// A typed message encodes to its bytes, or to as many bytes of the same meaning, with maps in another order.
fn check<M: Message + Name + Default + PartialEq>(raw: &[u8], from: &str, count: &mut Count) {
    let what = format!("{from}: {}", M::full_name());
    let message = M::decode(raw).unwrap_or_else(|error| panic!("{what}: {error}"));
    let has_struct = M::full_name() == DeltaDiscoveryRequest::full_name();
    let again = message.encode_to_vec();
    if again == raw {
        count.same_bytes += 1;
        return;
    }
    assert!(has_struct, "{what}: other bytes, though it has no map or its maps are sorted");
    // Nothing was lost or added, and what is there means the same: only the order can differ.
    assert_eq!(again.len(), raw.len(), "{what}");
    assert!(M::decode(again.as_slice()).unwrap() == message, "{what}");
    let (mut sorted, mut sorted_again) = (raw.to_vec(), again);
    sorted.sort_unstable();
    sorted_again.sort_unstable();
    assert_eq!(sorted, sorted_again, "{what}");
    count.other_map_order += 1;
}

/// Our schema of a proto kind has every field that was sent: the way through JSON loses no byte.
fn check_content(resource: &[u8], from: &str, count: &mut Count) {
    let resource = KumaResource::decode(resource).unwrap();
    let spec = resource.spec.unwrap_or_else(|| panic!("KDS-37, {from}: no spec"));
    if spec.type_url.is_empty() {
        return;
    }
    let Ok(content) = json::to_value(spec.message_name(), &spec.value) else {
        count.undecodable += 1;
        return;
    };
    let descriptor = json::pool().get_message_by_name(spec.message_name()).unwrap();
    let again = DynamicMessage::deserialize(descriptor, content).unwrap();
    assert_eq!(again.encoded_len(), spec.value.len(), "{from}: {}", spec.type_url);
}

/// An Any as the recording shows it: with its content opened.
fn opened(any: &Any, recorded: &Value) -> Value {
    let value = if any.type_url.is_empty() {
        serde_json::from_slice(&any.value).unwrap()
    } else {
        json::to_value(any.message_name(), &any.value).unwrap()
    };
    let value = with_placeholders(value);
    assert_eq!(recorded["value_json"].to_string(), value.to_string(), "order of keys");
    json!({"type_url": any.type_url, "value_json": value})
}

/// The recording has a placeholder where a path of its machine stood.
fn with_placeholders(mut value: Value) -> Value {
    if let Some(folder) = value.pointer_mut("/metadata/workdir") {
        assert!(folder.as_str().unwrap().starts_with("/tmp/kuma-dp-"), "{folder}");
        *folder = "<tmp>/kuma-dp-<n>".into();
    }
    value
}

fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/recorded/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bytes(base64: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(base64.as_str().unwrap()).unwrap()
}
