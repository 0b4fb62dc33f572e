//! `Dataplane`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::Dataplane;

use crate::spec::ProtoSpec;

impl ProtoSpec for Dataplane {}
