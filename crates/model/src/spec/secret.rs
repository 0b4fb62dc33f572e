//! `Secret` and `GlobalSecret`, which share one message (kds-wire 3.6).

use kds_proto::kuma::system::v1alpha1::Secret;

use crate::spec::ProtoSpec;

impl ProtoSpec for Secret {}
