//! `MeshGatewayRoute`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::MeshGatewayRoute;

use crate::spec::ProtoSpec;

impl ProtoSpec for MeshGatewayRoute {}
