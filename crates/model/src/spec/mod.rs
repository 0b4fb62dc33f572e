//! Typed content of the kinds, one file each: its shape, its schema and its validation.
//!
//! A kind is either encoded as JSON ([`JsonSpec`]: the targetRef policies and the services) or as protobuf
//! ([`ProtoSpec`]: everything older). [`Codec`] is what the table of kinds holds of either.

use bytes::Bytes;
use prost::{Message, Name};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use kds_proto::json;

use crate::resource::Meta;
use crate::violation::Violations;

mod address;
pub mod check;
mod circuit_breaker;
pub mod condition;
pub mod data_source;
pub mod dataplane;
mod envoy_fragment;
mod envoy_resource;
mod extension;
pub mod external_service;
mod fault_injection;
pub mod formats;
mod free_form;
pub mod go_template;
pub mod header;
pub mod header_modifier;
mod health_check;
pub mod hostname_generator;
pub mod inbound_match;
mod insights;
pub mod json_patch;
mod key_pair;
pub mod label_selector;
mod limits;
pub mod mesh;
pub mod mesh_access_log;
pub mod mesh_ca;
pub mod mesh_circuit_breaker;
pub mod mesh_external_service;
pub mod mesh_fault_injection;
pub mod mesh_gateway;
mod mesh_gateway_route;
pub mod mesh_health_check;
pub mod mesh_http_route;
pub mod mesh_identity;
pub mod mesh_load_balancing_strategy;
pub mod mesh_metric;
pub mod mesh_multi_zone_service;
pub mod mesh_passthrough;
pub mod mesh_proxy_patch;
pub mod mesh_rate_limit;
pub mod mesh_retry;
pub mod mesh_service;
pub mod mesh_tcp_route;
pub mod mesh_timeout;
pub mod mesh_tls;
pub mod mesh_trace;
pub mod mesh_traffic_permission;
pub mod mesh_trust;
pub mod outbound;
mod prometheus;
pub mod proto_json;
mod proxy_template;
pub mod rate_limit;
mod regexp;
mod retry;
mod secret;
#[cfg(test)]
mod tabled;
pub mod tags;
pub mod target_ref;
#[cfg(test)]
mod testing;
mod timeout;
pub mod tls;
mod traffic_log;
mod traffic_permission;
mod traffic_route;
mod traffic_trace;
pub mod virtual_outbound;
mod words;
pub mod workload;
pub mod zone;
mod zone_egress;
pub mod zone_ingress;

pub use extension::Extension;
pub use free_form::FreeForm;
pub use hostname_generator::HostnameGenerator;
pub use mesh_access_log::MeshAccessLog;
pub use mesh_circuit_breaker::MeshCircuitBreaker;
pub use mesh_external_service::MeshExternalService;
pub use mesh_fault_injection::MeshFaultInjection;
pub use mesh_health_check::MeshHealthCheck;
pub use mesh_http_route::MeshHttpRoute;
pub use mesh_identity::MeshIdentity;
pub use mesh_load_balancing_strategy::MeshLoadBalancingStrategy;
pub use mesh_metric::MeshMetric;
pub use mesh_multi_zone_service::MeshMultiZoneService;
pub use mesh_passthrough::MeshPassthrough;
pub use mesh_proxy_patch::MeshProxyPatch;
pub use mesh_rate_limit::MeshRateLimit;
pub use mesh_retry::MeshRetry;
pub use mesh_service::MeshService;
pub use mesh_tcp_route::MeshTcpRoute;
pub use mesh_timeout::MeshTimeout;
pub use mesh_tls::MeshTls;
pub use mesh_trace::MeshTrace;
pub use mesh_traffic_permission::MeshTrafficPermission;
pub use mesh_trust::MeshTrust;
pub use workload::Workload;

/// Whether a value prints as nothing, as zeros of Go do.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Content that does not have the shape of its kind.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// JSON of a JSON kind.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Protobuf bytes that have no JSON form.
    #[error("{0}")]
    Proto(#[from] json::Error),
    /// The JSON form of a proto kind, in the words of Kuma's users.
    #[error("{0}")]
    ProtoJson(#[from] proto_json::Error),
    /// Bytes that are no such message.
    #[error("{0}")]
    Decode(#[from] prost::DecodeError),
}

/// Content of a JSON kind: what stands below `spec`.
///
/// The order of the fields is the order in which they are printed; unknown members are dropped on input.
pub trait JsonSpec: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Adds what the kind's own rules refuse, with paths that begin with `spec`; the schema has passed already when
    /// the document came by REST, and has not when it came by KDS.
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let _ = (meta, found);
    }

    /// What is accepted but should be said to the author.
    fn warnings(&self, meta: &Meta) -> Vec<String> {
        let _ = meta;
        Vec::new()
    }
}

/// Content of a proto kind, whose fields stand at the top level of the document.
pub trait ProtoSpec: Message + Name + Default + 'static {
    /// Adds what the kind's rules refuse, with paths from the top of the document.
    fn validate(&self, meta: &Meta, found: &mut Violations) {
        let _ = (meta, found);
    }

    /// Writes out settings that a user left open, as is done before the content is stored.
    ///
    /// # Errors
    /// Free-form settings do not have their shape, which validation says too.
    fn complete(&mut self) -> Result<(), proto_json::Error> {
        Ok(())
    }

    /// Adds what only a write by a user can break, looked at when everything else has passed; `stored` is what the
    /// write replaces.
    fn validate_write(&self, stored: Option<&Self>, meta: &Meta, found: &mut Violations) {
        let _ = (stored, meta, found);
    }
}

/// What the table of kinds knows of a kind's content.
#[derive(Debug)]
pub struct Codec {
    /// How the content is encoded in the store and on the wire.
    pub encoding: Encoding,
    /// Content from its JSON form; members that the kind does not have are dropped.
    pub from_json: fn(Value) -> Result<Bytes, SpecError>,
    /// The JSON form of content, in the order in which it is printed.
    pub to_json: fn(&[u8]) -> Result<Value, SpecError>,
    /// The kind's own rules.
    pub validate: fn(&[u8], &Meta, &mut Violations) -> Result<(), SpecError>,
    /// Good content of a user with the settings that were left open.
    pub complete: fn(Bytes) -> Result<Bytes, SpecError>,
    /// The kind's rules for a write by a user, given what it replaces.
    pub validate_write: ValidateWrite,
    /// What is accepted but should be said.
    pub warnings: fn(&[u8], &Meta) -> Result<Vec<String>, SpecError>,
    /// JSON schema of the content; proto kinds have none (api-and-kumactl 1.4).
    pub schema: Option<fn() -> schemars::Schema>,
}

/// Judges new content that replaces other content, or none.
pub type ValidateWrite = fn(&[u8], Option<&[u8]>, &Meta, &mut Violations) -> Result<(), SpecError>;

/// How content is encoded (kds-wire 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Protobuf, a message of this package and name.
    Proto {
        /// Package of the message.
        package: &'static str,
        /// Name of the message.
        message: &'static str,
    },
    /// UTF-8 JSON of the spec.
    Json,
}

impl Codec {
    /// Codec of a JSON kind.
    pub const fn json<S: JsonSpec>() -> Self {
        Self {
            encoding: Encoding::Json,
            from_json: |value| Ok(serde_json::to_vec(&serde_json::from_value::<S>(value)?)?.into()),
            to_json: |bytes| Ok(serde_json::from_slice(bytes)?),
            validate: |bytes, meta, found| {
                serde_json::from_slice::<S>(bytes)?.validate(meta, found);
                Ok(())
            },
            complete: Ok,
            validate_write: |_, _, _, _| Ok(()),
            warnings: |bytes, meta| Ok(serde_json::from_slice::<S>(bytes)?.warnings(meta)),
            schema: Some(|| {
                let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
                settings.into_generator().into_root_schema_for::<S>()
            }),
        }
    }

    /// Codec of a proto kind.
    pub const fn proto<S: ProtoSpec>() -> Self {
        Self {
            encoding: Encoding::Proto { package: S::PACKAGE, message: S::NAME },
            from_json: |value| Ok(proto_json::from_value::<S>(&value)?.encode_to_vec().into()),
            to_json: |bytes| Ok(json::to_value(&S::full_name(), bytes)?),
            validate: |bytes, meta, found| {
                <S as Message>::decode(bytes)?.validate(meta, found);
                Ok(())
            },
            complete: |bytes| {
                let mut content = <S as Message>::decode(bytes)?;
                content.complete()?;
                Ok(content.encode_to_vec().into())
            },
            validate_write: |bytes, stored, meta, found| {
                let stored = stored.map(<S as Message>::decode).transpose()?;
                <S as Message>::decode(bytes)?.validate_write(stored.as_ref(), meta, found);
                Ok(())
            },
            warnings: |_, _| Ok(Vec::new()),
            schema: None,
        }
    }
}
