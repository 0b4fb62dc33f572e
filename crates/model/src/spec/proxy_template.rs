//! `ProxyTemplate`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::ProxyTemplate;

use crate::spec::ProtoSpec;

impl ProtoSpec for ProxyTemplate {}
