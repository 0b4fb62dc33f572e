//! `ZoneEgress`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::ZoneEgress;

use crate::spec::ProtoSpec;

impl ProtoSpec for ZoneEgress {}
