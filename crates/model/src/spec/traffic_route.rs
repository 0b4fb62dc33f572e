//! `TrafficRoute`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::TrafficRoute;

use crate::spec::ProtoSpec;

impl ProtoSpec for TrafficRoute {}
