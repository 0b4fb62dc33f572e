//! The byte vectors of kds-wire, Appendix A: what a resource looks like on the wire, to the last byte.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use kds_proto::Any;
use kds_proto::kuma::mesh::v1alpha1::kuma_resource::Meta;
use kds_proto::kuma::mesh::v1alpha1::{KumaResource, Mesh};
use kds_proto::kuma::system::v1alpha1::Config;
use prost::Message;

const MESH: &str = "
    0a230a0764656661756c7432180a0e6b756d612e696f2f6f726967696e1206676c6f62616c12
    2d0a2b747970652e676f6f676c65617069732e636f6d2f6b756d612e6d6573682e7631616c70
    6861312e4d657368";
const TIMEOUT: &str = "
    0a7c0a2764656661756c742d74696d656f75742d676c6f62616c2d3534646264346336367a77
    6263663963120764656661756c74322e0a146b756d612e696f2f646973706c61792d6e616d65
    121664656661756c742d74696d656f75742d676c6f62616c32180a0e6b756d612e696f2f6f72
    6967696e1206676c6f62616c128001127e7b22746f223a5b7b22746172676574526566223a7b
    226b696e64223a224d657368227d2c2264656661756c74223a7b22636f6e6e656374696f6e54
    696d656f7574223a223273222c2269646c6554696d656f7574223a22323073222c2268747470
    223a7b227265717565737454696d656f7574223a223273227d7d7d5d7d";
const CONFIG: &str = "
    0a2b0a0f6b756d612d636c75737465722d696432180a0e6b756d612e696f2f6f726967696e12
    06676c6f62616c12590a2f747970652e676f6f676c65617069732e636f6d2f6b756d612e7379
    7374656d2e7631616c706861312e436f6e66696712260a2436643961633462392d376133382d
    346339622d386632612d306433663063366630633131";

/// KDS-35, KDS-36: a proto kind is an Any with the type URL of its message, an empty spec too.
#[test]
fn mesh_from_the_global() {
    let resource = resource("default", "", &[("kuma.io/origin", "global")], Any::pack(&Mesh::default()));
    assert_vector(&resource, MESH, "ee3ed1993ca3721e6609c0fb78bb711a00f96c808af6675986293d420dc0d6d1");
}

/// KDS-36: a JSON kind is an Any without type URL around the JSON text.
#[test]
fn mesh_timeout_from_the_global() {
    let labels = [("kuma.io/origin", "global"), ("kuma.io/display-name", "default-timeout-global")];
    let json = r#"{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"2s","idleTimeout":"20s","http":{"requestTimeout":"2s"}}}]}"#;
    let spec = Any { type_url: String::new(), value: Bytes::from_static(json.as_bytes()) };
    let resource = resource("default-timeout-global-54dbd4c66zwbcf9c", "default", &labels, spec);
    assert_vector(&resource, TIMEOUT, "c00d4c125139cddada7963f76c968da6e70941f7b616cb48ea0f6a385c34f8b8");
}

/// KDS-36: the messages of package `kuma.system` go the same way.
#[test]
fn cluster_id_from_the_global() {
    let config = Config { config: "6d9ac4b9-7a38-4c9b-8f2a-0d3f0c6f0c11".to_owned() };
    let resource = resource("kuma-cluster-id", "", &[("kuma.io/origin", "global")], Any::pack(&config));
    assert_vector(&resource, CONFIG, "cb930d1385c2358f26e16eef167e30e0c6f371ce34c0afb604427b914c323ccf");
}

/// KDS-35: the outer Any of every resource.
#[test]
fn a_resource_is_packed_under_the_type_url_of_kuma_resource() {
    assert_eq!(Any::pack(&KumaResource::default()).type_url, kds_proto::KUMA_RESOURCE_TYPE_URL);
    assert_eq!(kds_proto::KUMA_RESOURCE_TYPE_URL, "type.googleapis.com/kuma.mesh.v1alpha1.KumaResource");
}

fn resource(name: &str, mesh: &str, labels: &[(&str, &str)], spec: Any) -> KumaResource {
    let labels: BTreeMap<String, String> = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let meta = Meta { name: name.into(), mesh: mesh.into(), labels, ..Meta::default() };
    KumaResource { meta: Some(meta), spec: Some(spec), ..KumaResource::default() }
}

fn assert_vector(resource: &KumaResource, hexadecimal: &str, sha256: &str) {
    let bytes = resource.encode_to_vec();
    let expected: String = hexadecimal.split_whitespace().collect();
    assert_eq!(hex(&bytes), expected);
    assert_eq!(hex(digest(&SHA256, &bytes).as_ref()), sha256);
    assert_eq!(&KumaResource::decode(bytes.as_slice()).unwrap(), resource);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
