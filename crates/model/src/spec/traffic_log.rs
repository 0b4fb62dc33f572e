//! `TrafficLog`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::TrafficLog;

use crate::spec::ProtoSpec;

impl ProtoSpec for TrafficLog {}
