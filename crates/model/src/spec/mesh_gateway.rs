//! `MeshGateway`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::MeshGateway;

use crate::spec::ProtoSpec;

impl ProtoSpec for MeshGateway {}
