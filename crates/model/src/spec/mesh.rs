//! `Mesh`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::Mesh;

use crate::spec::ProtoSpec;

impl ProtoSpec for Mesh {}
