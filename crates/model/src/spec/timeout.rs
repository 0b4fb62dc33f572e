//! `Timeout`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::Timeout;

use crate::spec::ProtoSpec;

impl ProtoSpec for Timeout {}
