//! `TrafficPermission`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::TrafficPermission;

use crate::spec::ProtoSpec;

impl ProtoSpec for TrafficPermission {}
