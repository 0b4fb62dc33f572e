//! What a payload promises to the store and to the streams.

use kds_proto::kuma::mesh::v1alpha1::Mesh;
use model::Payload;
use prost::Message;

/// A stored proto spec keeps fields that our schema lacks, also once it was read in typed form (kds-wire 3.6).
#[test]
fn reading_a_spec_does_not_lose_unknown_fields() {
    let mut bytes = Mesh { skip_creating_initial_policies: vec!["*".to_owned()], ..Mesh::default() }.encode_to_vec();
    prost::encoding::string::encode(9999, &"from a newer version".to_owned(), &mut bytes);
    let payload = Payload::from_bytes(bytes.clone());
    assert_eq!(payload.message::<Mesh>().unwrap().skip_creating_initial_policies, ["*"]);
    assert_eq!(payload.bytes(), &bytes);
}
