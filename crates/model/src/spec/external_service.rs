//! `ExternalService`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::ExternalService;

use crate::spec::ProtoSpec;

impl ProtoSpec for ExternalService {}
