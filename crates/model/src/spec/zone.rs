//! `Zone`, carried as it is.

use kds_proto::kuma::system::v1alpha1::Zone;

use crate::spec::ProtoSpec;

impl ProtoSpec for Zone {}
