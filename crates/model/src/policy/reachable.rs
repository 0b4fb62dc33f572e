//! Which services that are resources a proxy may reach (api-and-kumactl 2.4, `_layout`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Kind;
use crate::kri::Kri;
use crate::policy::Proxy;
use crate::policy::resolve::{self, Query};
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::spec::target_ref::{TargetKind, TargetRef};
use crate::spec::{MeshExternalService, MeshMultiZoneService, MeshService};

/// The kinds that a backend can be of.
const SERVICES: [Kind; 3] = [Kind::MeshService, Kind::MeshExternalService, Kind::MeshMultiZoneService];

/// A port of a service that is a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, or its number as text.
    pub name: String,
    /// Its number.
    pub number: i32,
    /// What it speaks.
    pub protocol: String,
}

/// Ports of a service; none for other kinds and for what does not decode.
pub fn ports(service: &Resource) -> Vec<ServicePort> {
    let port = |name: Option<&String>, number: i32, protocol: &str| ServicePort {
        name: name.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| number.to_string()),
        number,
        protocol: if protocol.is_empty() { "tcp" } else { protocol }.to_owned(),
    };
    let spec = &service.spec;
    match service.kind() {
        Kind::MeshService => spec.json::<MeshService>().map_or_else(
            |_| Vec::new(),
            |spec| {
                let of = |p: &crate::spec::mesh_service::Port| {
                    port(p.name.as_ref(), p.port, p.app_protocol.as_deref().unwrap_or_default())
                };
                spec.ports.iter().map(of).collect()
            },
        ),
        Kind::MeshMultiZoneService => spec.json::<MeshMultiZoneService>().map_or_else(
            |_| Vec::new(),
            |spec| spec.ports.iter().map(|p| port(p.name.as_ref(), p.port, &p.app_protocol)).collect(),
        ),
        Kind::MeshExternalService => spec
            .json::<MeshExternalService>()
            .map_or_else(|_| Vec::new(), |spec| vec![port(None, spec.r#match.port, spec.r#match.protocol.as_str())]),
        _ => Vec::new(),
    }
}

/// The ports that a proxy may reach: those of its outbounds, else those that it names as reachable, else all.
pub fn reachable(snapshot: &Snapshot, proxy: Proxy<'_>) -> BTreeMap<Kri, ServicePort> {
    let mut found = Found { snapshot, proxy, ports: BTreeMap::new() };
    let Some(networking) = &proxy.dataplane.networking else { return found.ports };
    for backend in networking.outbound.iter().filter_map(|outbound| outbound.backend_ref.as_ref()) {
        found.add(&Backend {
            kind: &backend.kind,
            name: &backend.name,
            namespace: "",
            port: Some(backend.port),
            labels: &backend.labels,
        });
    }
    if !found.ports.is_empty() {
        return found.ports;
    }
    let listed = networking.transparent_proxying.as_ref().and_then(|redirected| redirected.reachable_backends.as_ref());
    match listed {
        Some(listed) => {
            for backend in &listed.refs {
                found.add(&Backend {
                    kind: &backend.kind,
                    name: &backend.name,
                    namespace: &backend.namespace,
                    port: backend.port,
                    labels: &backend.labels,
                });
            }
        }
        None => {
            for service in SERVICES.iter().flat_map(|kind| snapshot.list_in(*kind, &proxy.meta.key.mesh)) {
                found.add_ports(service, None);
            }
        }
    }
    found.ports
}

struct Backend<'a> {
    kind: &'a str,
    name: &'a str,
    namespace: &'a str,
    port: Option<u32>,
    labels: &'a BTreeMap<String, String>,
}

struct Found<'a> {
    snapshot: &'a Snapshot,
    proxy: Proxy<'a>,
    ports: BTreeMap<Kri, ServicePort>,
}

impl Found<'_> {
    fn add(&mut self, backend: &Backend<'_>) {
        let Some(kind) = SERVICES.iter().copied().find(|kind| kind.name() == backend.kind) else { return };
        let find = |query: &Query<'_>| resolve::find(self.snapshot, kind, &self.proxy.meta.key.mesh, query);
        let by_labels: BTreeMap<&str, &str> =
            backend.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let mut services = if by_labels.is_empty() { Vec::new() } else { find(&Query::Labels(by_labels)) };
        if services.is_empty() {
            let target = TargetRef {
                name: Some(backend.name.to_owned()),
                namespace: Some(backend.namespace.to_owned()),
                ..TargetRef::of(TargetKind::from(backend.kind))
            };
            let identifier = resolve::identifier(self.proxy.meta, &target);
            services = identifier.map(|identifier| find(&Query::Identifier(identifier))).unwrap_or_default();
        }
        for service in services {
            self.add_ports(&service, backend.port);
        }
    }

    /// The port of a number, or all when there is none of that number.
    fn add_ports(&mut self, service: &Arc<Resource>, number: Option<u32>) {
        let Some(kri) = Kri::of(&service.meta) else { return };
        let all = ports(service);
        let wanted = |port: &&ServicePort| number.is_some_and(|number| i64::from(port.number) == i64::from(number));
        let one = all.iter().find(wanted).cloned();
        for port in one.map_or(all, |port| vec![port]) {
            self.ports.insert(kri.with_section(&port.name), port);
        }
    }
}

#[cfg(test)]
mod tests {
    use kds_proto::kuma::mesh::v1alpha1::Dataplane;
    use serde_json::{Value, json};

    use super::*;
    use crate::labels::{self, Labels};
    use crate::resource::{Key, Meta, Payload};
    use crate::snapshot::Change;
    use crate::spec::proto_json;

    fn service(kind: Kind, name: &str, labels: &[(&str, &str)], spec: Value) -> Change {
        let bytes = (kind.info().codec.from_json)(spec).unwrap();
        let labels: Labels = labels.iter().copied().collect();
        Change::Put(Arc::new(Resource::new(Key::new(kind, "default", name), labels, Payload::from_bytes(bytes))))
    }

    fn reached(outbounds: Value, redirected: Value) -> Vec<String> {
        let east = &[(labels::ZONE, "east"), (labels::ORIGIN, "zone"), ("app", "web")][..];
        let snapshot = Snapshot::empty().apply(
            1,
            [
                service(
                    Kind::MeshService,
                    "web",
                    east,
                    json!({"ports": [{"port": 80, "name": "http", "appProtocol": "http"}, {"port": 81}]}),
                ),
                service(
                    Kind::MeshService,
                    "api-x",
                    &[(labels::ZONE, "west"), (labels::DISPLAY_NAME, "api")],
                    json!({"ports": [{"port": 90}]}),
                ),
                service(
                    Kind::MeshExternalService,
                    "out",
                    &[],
                    json!({"match": {"type": "HostnameGenerator", "port": 443, "protocol": "tls"}}),
                ),
            ],
        );
        let networking = json!({"address": "10.0.0.1", "outbound": outbounds, "transparentProxying": redirected});
        let dataplane: Dataplane = proto_json::from_value(&json!({"networking": networking})).unwrap();
        let meta =
            Meta::new(Key::new(Kind::Dataplane, "default", "dp"), [(labels::ZONE, "east")].into_iter().collect());
        let ports = reachable(&snapshot, Proxy { meta: &meta, dataplane: &dataplane });
        ports.iter().map(|(kri, port)| format!("{kri} {} {}", port.number, port.protocol)).collect()
    }

    #[test]
    fn a_proxy_reaches_what_it_names_and_else_everything() {
        let http = "kri_msvc_default_east__web_http 80 http";
        let other = "kri_msvc_default_east__web_81 81 tcp";
        assert_eq!(
            reached(json!([]), Value::Null),
            ["kri_extsvc_default___out_443 443 tls", other, http, "kri_msvc_default_west__api_90 90 tcp"]
        );
        let by_name = json!({"kind": "MeshService", "name": "web", "port": 80});
        let outbound = |backend: &Value| json!([{"port": 9000, "backendRef": backend}]);
        assert_eq!(reached(outbound(&by_name), Value::Null), [http]);
        let by_label = json!({"kind": "MeshService", "labels": {"app": "web"}, "port": 81});
        assert_eq!(reached(outbound(&by_label), Value::Null), [other]);
        let listed = json!({"reachableBackends": {"refs": [{"kind": "MeshService", "name": "web"}]}});
        assert_eq!(reached(json!([]), listed), [other, http]);
        let nothing = json!({"reachableBackends": {"refs": []}});
        assert!(reached(json!([]), nothing).is_empty());
    }
}
