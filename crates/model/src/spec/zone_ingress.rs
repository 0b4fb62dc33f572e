//! `ZoneIngress`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::ZoneIngress;

use crate::spec::ProtoSpec;

impl ProtoSpec for ZoneIngress {}
