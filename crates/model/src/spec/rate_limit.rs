//! `RateLimit`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::RateLimit;

use crate::spec::ProtoSpec;

impl ProtoSpec for RateLimit {}
