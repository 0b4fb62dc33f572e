//! `HealthCheck`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::HealthCheck;

use crate::spec::ProtoSpec;

impl ProtoSpec for HealthCheck {}
