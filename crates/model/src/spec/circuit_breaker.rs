//! `CircuitBreaker`, carried as it is.

use kds_proto::kuma::mesh::v1alpha1::CircuitBreaker;

use crate::spec::ProtoSpec;

impl ProtoSpec for CircuitBreaker {}
