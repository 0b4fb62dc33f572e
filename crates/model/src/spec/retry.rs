//! `Retry`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::Retry;

use crate::spec::ProtoSpec;

impl ProtoSpec for Retry {}
