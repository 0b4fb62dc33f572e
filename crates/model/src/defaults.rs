//! What a control plane creates without being asked (api-and-kumactl 6): policies of a new mesh, names of services.
//!
//! Keys and tokens are not here: they need randomness and come from `identity`.

use serde_json::{Value, json};

use crate::kind::Kind;
use crate::labels::{self, Labels};
use crate::resource::{Key, Payload, Resource};
use crate::spec::SpecError;

/// Policies of a new mesh, but for the kinds that it does not want; `*` stands for every kind.
///
/// `routing` adds the older TrafficPermission and TrafficRoute that allow everything.
///
/// # Errors
/// A default does not have its kind's shape: an error of this file, which its tests would show.
pub fn mesh_policies(mesh: &str, unwanted: &[String], routing: bool) -> Result<Vec<Resource>, SpecError> {
    let wanted = |kind: Kind| !unwanted.iter().any(|name| name == "*" || name == kind.name());
    let mut defaults = vec![
        (Kind::MeshTimeout, format!("mesh-timeout-all-{mesh}"), sidecar_timeouts()),
        (Kind::MeshTimeout, format!("mesh-gateways-timeout-all-{mesh}"), gateway_timeouts()),
        (Kind::MeshCircuitBreaker, format!("mesh-circuit-breaker-all-{mesh}"), circuit_breaker()),
        (Kind::MeshRetry, format!("mesh-retry-all-{mesh}"), retry()),
    ];
    if routing {
        let everything = json!([{"match": {"kuma.io/service": "*"}}]);
        let permission = json!({"sources": everything, "destinations": everything});
        let route = json!({"sources": everything, "destinations": everything,
            "conf": {"loadBalancer": {"roundRobin": {}}, "destination": {"kuma.io/service": "*"}}});
        defaults.push((Kind::TrafficPermission, format!("allow-all-{mesh}"), permission));
        defaults.push((Kind::TrafficRoute, format!("route-all-{mesh}"), route));
    }
    let defaults = defaults.into_iter().filter(|(kind, ..)| wanted(*kind));
    defaults.map(|(kind, name, spec)| resource(Key::new(kind, mesh, &name), Labels::default(), spec)).collect()
}

/// How services of the whole system are named, made by the global.
///
/// # Errors
/// As [`mesh_policies`].
pub fn global_hostname_generators() -> Result<Vec<Resource>, SpecError> {
    let services = |more: Value| {
        let mut wanted = json!({"kuma.io/origin": "global"});
        if let (Some(labels), Value::Object(more)) = (wanted.as_object_mut(), more) {
            labels.extend(more);
        }
        json!({"meshService": {"matchLabels": wanted}})
    };
    let kubernetes =
        |headless: &str| services(json!({"kuma.io/env": "kubernetes", "k8s.kuma.io/is-headless-service": headless}));
    let global = json!({"matchLabels": {"kuma.io/origin": "global"}});
    let pod = r#"{{ label "statefulset.kubernetes.io/pod-name" }}.{{ label "k8s.kuma.io/service-name" }}"#;
    hostname_generators(
        &Labels::default(),
        [
            (
                "synced-mesh-multi-zone-service",
                json!({"meshMultiZoneService": global}),
                "{{ .DisplayName }}.mzsvc.mesh.local".into(),
            ),
            (
                "synced-kube-mesh-service",
                kubernetes("false"),
                "{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local".into(),
            ),
            (
                "synced-headless-kube-mesh-service",
                kubernetes("true"),
                format!("{pod}.{{{{ .Namespace }}}}.svc.{{{{ .Zone }}}}.mesh.local"),
            ),
            (
                "synced-universal-mesh-service",
                services(json!({"kuma.io/env": "universal"})),
                "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local".into(),
            ),
            (
                "synced-mesh-external-service",
                json!({"meshExternalService": global}),
                "{{ .DisplayName }}.extsvc.mesh.local".into(),
            ),
        ],
    )
}

/// How a zone's own services are named, made by the zone.
///
/// # Errors
/// As [`mesh_policies`].
pub fn zone_hostname_generators() -> Result<Vec<Resource>, SpecError> {
    let own: Labels = [(labels::ORIGIN, labels::ORIGIN_ZONE)].into_iter().collect();
    let zone = json!({"matchLabels": {"kuma.io/origin": "zone"}});
    hostname_generators(
        &own,
        [
            (
                "local-mesh-external-service",
                json!({"meshExternalService": zone}),
                "{{ .DisplayName }}.extsvc.mesh.local".into(),
            ),
            ("local-universal-mesh-service", json!({"meshService": zone}), "{{ .DisplayName }}.svc.mesh.local".into()),
        ],
    )
}

fn hostname_generators<const N: usize>(
    labels: &Labels,
    generators: [(&str, Value, String); N],
) -> Result<Vec<Resource>, SpecError> {
    let generators = generators.into_iter();
    let made = generators.map(|(name, selector, template)| {
        let spec = json!({"selector": selector, "template": template});
        resource(Key::global(Kind::HostnameGenerator, name), labels.clone(), spec)
    });
    made.collect()
}

fn resource(key: Key, labels: Labels, spec: Value) -> Result<Resource, SpecError> {
    let spec = (key.kind.info().codec.from_json)(spec)?;
    Ok(Resource::new(key, labels, Payload::from_bytes(spec)))
}

fn sidecar_timeouts() -> Value {
    json!({
        "targetRef": {"kind": "Mesh", "proxyTypes": ["Sidecar"]},
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "5s", "idleTimeout": "1h0m0s",
            "http": {"requestTimeout": "15s", "streamIdleTimeout": "30m0s"}}}],
        "from": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "10s", "idleTimeout": "2h0m0s",
            "http": {"requestTimeout": "0s", "streamIdleTimeout": "1h0m0s", "maxStreamDuration": "0s"}}}],
    })
}

fn gateway_timeouts() -> Value {
    json!({
        "targetRef": {"kind": "Mesh", "proxyTypes": ["Gateway"]},
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": "1h0m0s", "http": {"streamIdleTimeout": "5s"}}}],
        "from": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": "5m0s",
            "http": {"streamIdleTimeout": "5s", "requestHeadersTimeout": "500ms"}}}],
    })
}

fn circuit_breaker() -> Value {
    json!({
        "targetRef": {"kind": "Mesh"},
        "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionLimits":
            {"maxConnections": 1024, "maxPendingRequests": 1024, "maxRetries": 3, "maxRequests": 1024}}}],
    })
}

fn retry() -> Value {
    let back_off = json!({"baseInterval": "25ms", "maxInterval": "250ms"});
    let requests = json!({"numRetries": 5, "perTryTimeout": "16s", "backOff": back_off});
    json!({
        "targetRef": {"kind": "Mesh"},
        "to": [{"targetRef": {"kind": "Mesh"}, "default":
            {"tcp": {"maxConnectAttempt": 5}, "http": requests, "grpc": requests}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violation::Violations;

    fn names(resources: &[Resource]) -> Vec<&str> {
        resources.iter().map(|resource| &*resource.meta.key.name).collect()
    }

    /// API-17: two timeouts, a circuit breaker and a retry, named after the mesh, without labels.
    #[test]
    fn a_mesh_gets_its_policies_but_for_the_unwanted() {
        let all = mesh_policies("demo", &[], false).unwrap();
        let expected = [
            "mesh-timeout-all-demo",
            "mesh-gateways-timeout-all-demo",
            "mesh-circuit-breaker-all-demo",
            "mesh-retry-all-demo",
        ];
        assert_eq!(names(&all), expected);
        assert!(all.iter().all(|resource| resource.meta.labels.is_empty()));
        assert!(mesh_policies("demo", &["*".into()], true).unwrap().is_empty());
        assert_eq!(names(&mesh_policies("demo", &["MeshTimeout".into()], false).unwrap()), expected[2..]);
        assert_eq!(mesh_policies("demo", &[], true).unwrap().len(), 6);
    }

    #[test]
    fn every_default_meets_its_own_rules() {
        let policies = mesh_policies("default", &[], true).unwrap();
        let names = [global_hostname_generators().unwrap(), zone_hostname_generators().unwrap()].concat();
        for resource in policies.iter().chain(&names) {
            let mut found = Violations::default();
            (resource.kind().info().codec.validate)(resource.spec.bytes(), &resource.meta, &mut found).unwrap();
            assert!(found.is_empty(), "{}: {found}", resource.meta.key);
        }
    }
}
