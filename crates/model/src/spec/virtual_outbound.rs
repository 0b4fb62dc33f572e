//! `VirtualOutbound`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::VirtualOutbound;

use crate::spec::ProtoSpec;

impl ProtoSpec for VirtualOutbound {}
