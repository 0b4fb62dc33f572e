//! `TrafficTrace`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::TrafficTrace;

use crate::spec::ProtoSpec;

impl ProtoSpec for TrafficTrace {}
