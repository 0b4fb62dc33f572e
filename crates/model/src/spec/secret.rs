//! `Secret` and `GlobalSecret`: bytes that only admins may read (api-and-kumactl 3.23). Their format is nobody's business.

use kds_proto::kuma::system::v1alpha1::Secret;

use crate::spec::ProtoSpec;

impl ProtoSpec for Secret {}
