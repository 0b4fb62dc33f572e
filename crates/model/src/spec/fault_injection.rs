//! `FaultInjection`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::FaultInjection;

use crate::spec::ProtoSpec;

impl ProtoSpec for FaultInjection {}
