//! Kinds that control planes write for each other and whose content nobody else checks.

use kds_proto::kuma::mesh::v1alpha1::{
    DataplaneInsight, MeshInsight, ServiceInsight, ZoneEgressInsight, ZoneIngressInsight,
};
use kds_proto::kuma::system::v1alpha1::{Config, ZoneInsight};

use crate::spec::ProtoSpec;

impl ProtoSpec for Config {}
impl ProtoSpec for DataplaneInsight {}
impl ProtoSpec for MeshInsight {}
impl ProtoSpec for ServiceInsight {}
impl ProtoSpec for ZoneEgressInsight {}
impl ProtoSpec for ZoneIngressInsight {}
impl ProtoSpec for ZoneInsight {}
