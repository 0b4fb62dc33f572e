//! `Mesh`: what holds for everything in a mesh (api-and-kumactl 3.1).

use std::collections::BTreeSet;

use kds_proto::kuma::mesh::v1alpha1::mesh::mesh_services::Mode;
use kds_proto::kuma::mesh::v1alpha1::mesh::{Constraints, Mtls};
use kds_proto::kuma::mesh::v1alpha1::{
    DatadogTracingBackendConfig, FileLoggingBackendConfig, Logging, LoggingBackend, Mesh, Metrics,
    TcpLoggingBackendConfig, Tracing, TracingBackend, ZipkinTracingBackendConfig,
};
use prost::{Message, Name};
use prost_types::Struct;

use crate::duration::parse_kuma;
use crate::kind::Kind;
use crate::name;
use crate::resource::Meta;
use crate::spec::address::{check_port, split_host_port, uri_port};
use crate::spec::proto_json::{self, from_struct};
use crate::spec::tags::Rules;
use crate::spec::{ProtoSpec, mesh_ca, prometheus};
use crate::violation::{Path, Violations};

pub use crate::spec::mesh_ca::{authority_sources, backend_using, check_loaded_backends, held};

const EMPTY: &str = "cannot be empty";

/// Name of the enabled mTLS backend; `None` when mTLS is off.
pub fn enabled_backend(mesh: &Mesh) -> Option<&str> {
    mesh.mtls.as_ref().map(|mtls| mtls.enabled_backend.as_str()).filter(|name| !name.is_empty())
}

/// Whether services of a mesh are resources and nothing else.
pub fn is_exclusive(mesh: &Mesh) -> bool {
    mesh.mesh_services.as_ref().is_some_and(|services| services.mode() == Mode::Exclusive)
}

/// Whether traffic leaves zones through egresses.
pub fn uses_zone_egress(mesh: &Mesh) -> bool {
    mesh.routing.as_ref().is_some_and(|routing| routing.zone_egress)
}

impl ProtoSpec for Mesh {
    fn validate(&self, _: &Meta, found: &mut Violations) {
        if let Some(mtls) = &self.mtls {
            check_mtls(&Path::of("mtls"), mtls, found);
        }
        if let Some(logging) = &self.logging {
            check_logging(&Path::of("logging"), logging, found);
        }
        if let Some(tracing) = &self.tracing {
            check_tracing(&Path::of("tracing"), tracing, found);
        }
        if let Some(metrics) = &self.metrics {
            check_metrics(&Path::of("metrics"), metrics, found);
        }
        if let Some(constraints) = &self.constraints {
            check_constraints(&Path::of("constraints.dataplaneProxy"), constraints, found);
        }
        if uses_zone_egress(self) && enabled_backend(self).is_none() {
            found.add(&Path::of("mtls"), "has to be set when zoneEgress enabled");
        }
    }

    fn complete(&mut self) -> Result<(), proto_json::Error> {
        self.metrics.iter_mut().flat_map(|metrics| &mut metrics.backends).try_for_each(prometheus::fill_defaults)
    }

    fn validate_write(&self, stored: Option<&Self>, meta: &Meta, found: &mut Violations) {
        if let Some(reason) = name::check_kind(Kind::Mesh, &meta.key.name, stored.is_none()) {
            found.add(&Path::of("name"), reason);
        }
        let backends = (stored.and_then(enabled_backend), enabled_backend(self));
        if matches!(backends, (Some(before), Some(after)) if before != after) {
            let reason = "Changing CA when mTLS is enabled is forbidden. Disable mTLS first and then change the CA";
            found.add(&Path::of("mtls.enabledBackend"), reason);
        }
        mesh_ca::check_backends(&meta.key.name, self, found);
    }
}

/// Names that are used up, to tell repeated ones.
#[derive(Default)]
struct Names<'a>(BTreeSet<&'a str>);

impl<'a> Names<'a> {
    fn take(&mut self, at: &Path, name: &'a str, found: &mut Violations) {
        if !self.0.insert(name) {
            found.add(&at.field("name"), format!("{name:?} name is already used for another backend"));
        }
    }

    /// Adds a fault when a reference is there and leads to none of the names.
    fn check_reference(&self, at: &Path, name: &str, reason: &str, found: &mut Violations) {
        if !name.is_empty() && !self.0.contains(name) {
            found.add(at, reason);
        }
    }
}

fn check_mtls(at: &Path, mtls: &Mtls, found: &mut Violations) {
    if mtls.backends.len() > 1 {
        found.add(&at.field("backends"), "cannot have more than 1 backends");
    }
    let mut names = Names::default();
    for (position, backend) in mtls.backends.iter().enumerate() {
        names.take(&at.field("backends").index(position), &backend.name, found);
        if let Some(certificate) = &backend.dp_cert {
            let expiration = certificate.rotation.as_ref().map_or("", |rotation| &rotation.expiration);
            if parse_kuma(expiration).is_err() {
                // Kuma spells it so, and leaves out the position.
                found.add(&at.field("dpcert.rotation.expiration"), "has to be a valid format");
            }
        }
    }
    let reason = "has to be set to one of the backends in the mesh";
    names.check_reference(&at.field("enabledBackend"), &mtls.enabled_backend, reason, found);
}

fn check_logging(at: &Path, logging: &Logging, found: &mut Violations) {
    let mut names = Names::default();
    for (position, backend) in logging.backends.iter().enumerate() {
        let at = at.field("backends").index(position);
        check_logging_backend(&at, backend, found);
        names.take(&at, &backend.name, found);
    }
    let reason = "has to be set to one of the logging backend in mesh";
    names.check_reference(&at.field("defaultBackend"), &logging.default_backend, reason, found);
}

fn check_logging_backend(at: &Path, backend: &LoggingBackend, found: &mut Violations) {
    if backend.name.is_empty() {
        found.add(&at.field("name"), EMPTY);
    }
    // What documents call `conf` Kuma reports as `config`.
    let settings = at.field("config");
    match backend.r#type.as_str() {
        "file" => {
            let conf: Option<FileLoggingBackendConfig> = read(&settings, backend.conf.as_ref(), found);
            if conf.is_some_and(|conf| conf.path.is_empty()) {
                found.add(&settings.field("path"), EMPTY);
            }
        }
        "tcp" => {
            let conf: Option<TcpLoggingBackendConfig> = read(&settings, backend.conf.as_ref(), found);
            let Some(TcpLoggingBackendConfig { address }) = conf else { return };
            let at = settings.field("address");
            match split_host_port(&address) {
                _ if address.is_empty() => found.add(&at, EMPTY),
                Some((host, port)) if !host.is_empty() && !port.is_empty() => {}
                _ => found.add(&at, "has to be in format of HOST:PORT"),
            }
        }
        _ => found.add(&at.field("type"), r#"unknown backend type. Available backends: "tcp", "file""#),
    }
}

fn check_tracing(at: &Path, tracing: &Tracing, found: &mut Violations) {
    let mut names = Names::default();
    for (position, backend) in tracing.backends.iter().enumerate() {
        let at = at.field("backends").index(position);
        check_tracing_backend(&at, backend, found);
        names.take(&at, &backend.name, found);
    }
    let reason = "has to be set to one of the tracing backend in mesh";
    names.check_reference(&at.field("defaultBackend"), &tracing.default_backend, reason, found);
}

fn check_tracing_backend(at: &Path, backend: &TracingBackend, found: &mut Violations) {
    if backend.name.is_empty() {
        found.add(&at.field("name"), EMPTY);
    }
    if backend.sampling.is_some_and(|share| !(0.0..=100.0).contains(&share)) {
        found.add(&at.field("sampling"), "has to be in [0.0 - 100.0] range");
    }
    let settings = at.field("config");
    match backend.r#type.as_str() {
        "zipkin" => {
            if let Some(conf) = read(&settings, backend.conf.as_ref(), found) {
                check_zipkin(&settings, &conf, found);
            }
        }
        "datadog" => {
            let conf: Option<DatadogTracingBackendConfig> = read(&settings, backend.conf.as_ref(), found);
            let Some(conf) = conf else { return };
            if conf.address.is_empty() {
                found.add(&settings.field("address"), EMPTY);
            }
            check_port(&settings.field("port"), conf.port, found);
        }
        _ => found.add(&at.field("type"), r#"unknown backend type. Available backends: "zipkin", "datadog""#),
    }
}

fn check_zipkin(at: &Path, conf: &ZipkinTracingBackendConfig, found: &mut Violations) {
    if !["", "httpJsonV1", "httpJson", "httpProto"].contains(&conf.api_version.as_str()) {
        let reason = "has invalid value. Allowed values: httpJsonV1, httpJson, httpProto";
        found.add(&at.field("apiVersion"), reason);
    }
    let at = at.field("url");
    match uri_port(&conf.url) {
        _ if conf.url.is_empty() => found.add(&at, EMPTY),
        Err(_) => found.add(&at, "invalid URL"),
        Ok(None) => found.add(&at, "port has to be explicitly specified"),
        Ok(Some(_)) => {}
    }
}

/// The settings of a backend, unless they do not have their shape.
fn read<M: Message + Name + Default>(at: &Path, conf: Option<&Struct>, found: &mut Violations) -> Option<M> {
    from_struct(conf).map_err(|fault| found.add(at, format!("could not parse config: {fault}"))).ok()
}

fn check_metrics(at: &Path, metrics: &Metrics, found: &mut Violations) {
    let mut names = Names::default();
    for (position, backend) in metrics.backends.iter().enumerate() {
        let at = at.field("backends").index(position);
        names.take(&at, &backend.name, found);
        prometheus::check_backend(&at, backend, found);
    }
    let reason = "has to be set to one of the backends in the mesh";
    names.check_reference(&at.field("enabledBackend"), &metrics.enabled_backend, reason, found);
}

fn check_constraints(at: &Path, constraints: &Constraints, found: &mut Violations) {
    let Some(rules) = &constraints.dataplane_proxy else { return };
    for (member, rules) in [("requirements", &rules.requirements), ("restrictions", &rules.restrictions)] {
        for (position, rule) in rules.iter().enumerate() {
            Rules::ANY.check(&at.field(member).index(position).field("tags"), &rule.tags, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kind::Kind;
    use crate::spec::proto_json::from_value;
    use crate::spec::tabled::{meta, proto_faults as faults};

    #[test]
    fn an_empty_mesh_is_a_mesh() {
        assert!(faults(Kind::Mesh, json!({})).is_empty());
    }

    #[test]
    fn the_enabled_backend_is_one_of_the_mesh() {
        let with = |mtls: Value| faults(Kind::Mesh, json!({"mtls": mtls}));
        assert_eq!(
            with(json!({"enabledBackend": "x"})),
            ["mtls.enabledBackend: has to be set to one of the backends in the mesh"]
        );
        let expiration = |expiration: Value| with(json!({"backends": [{"name": "a", "dpCert": expiration}]}));
        for good in ["1d", "0", "15m", "1y"] {
            assert!(expiration(json!({"rotation": {"expiration": good}})).is_empty(), "{good}");
        }
        let reason = ["mtls.dpcert.rotation.expiration: has to be a valid format"];
        assert_eq!(expiration(json!({"rotation": {"expiration": "1h30m"}})), reason);
        assert_eq!(expiration(json!({"requestTimeout": "1s"})), reason);
    }

    #[test]
    fn logging_backends_have_their_settings() {
        let with = |backend: Value| faults(Kind::Mesh, json!({"logging": {"backends": [backend]}}));
        let at = "logging.backends[0]";
        assert!(with(json!({"name": "a", "type": "tcp", "conf": {"address": "[::1]:5000"}})).is_empty());
        assert_eq!(
            with(json!({"type": "file"})),
            [format!("{at}.name: cannot be empty"), format!("{at}.config.path: cannot be empty")]
        );
        let tcp = |conf: Value| with(json!({"name": "a", "type": "tcp", "conf": conf}));
        assert_eq!(tcp(json!({})), [format!("{at}.config.address: cannot be empty")]);
        assert_eq!(tcp(json!({"address": "host"})), [format!("{at}.config.address: has to be in format of HOST:PORT")]);
        assert_eq!(tcp(json!({"address": ":1"})), [format!("{at}.config.address: has to be in format of HOST:PORT")]);
        assert_eq!(
            tcp(json!({"address": 5})),
            [format!(
                "{at}.config: could not parse config: json: cannot unmarshal number into Go value of type string"
            )]
        );
    }

    #[test]
    fn tracing_backends_have_their_settings() {
        let zipkin = |conf: Value| {
            faults(Kind::Mesh, json!({"tracing": {"backends": [{"name": "a", "type": "zipkin", "conf": conf}]}}))
        };
        let at = "tracing.backends[0].config";
        assert!(zipkin(json!({"url": "http://zipkin:9411/api/v2/spans", "apiVersion": "httpJson"})).is_empty());
        assert_eq!(
            zipkin(json!({"apiVersion": "x"})),
            [
                format!("{at}.apiVersion: has invalid value. Allowed values: httpJsonV1, httpJson, httpProto"),
                format!("{at}.url: cannot be empty")
            ]
        );
        assert_eq!(zipkin(json!({"url": "http://zipkin"})), [format!("{at}.url: port has to be explicitly specified")]);
        assert_eq!(
            faults(
                Kind::Mesh,
                json!({"tracing": {"backends": [{"name": "a", "type": "x"}, {"name": "a", "type": "x"}]}})
            ),
            [
                r#"tracing.backends[0].type: unknown backend type. Available backends: "zipkin", "datadog""#,
                r#"tracing.backends[1].type: unknown backend type. Available backends: "zipkin", "datadog""#,
                r#"tracing.backends[1].name: "a" name is already used for another backend"#
            ]
        );
    }

    #[test]
    fn metrics_backends_have_their_settings() {
        let with = |conf: Value| {
            faults(Kind::Mesh, json!({"metrics": {"backends": [{"name": "a", "type": "prometheus", "conf": conf}]}}))
        };
        let at = "metrics.backends[0].conf";
        assert!(with(json!({"skipMTLS": true, "tls": {"mode": "disabled"}})).is_empty());
        assert_eq!(
            with(json!({"skipMTLS": false, "tls": {"mode": "disabled"}})),
            [format!("{at}: skipMTLS and tls configuration cannot be defined together")]
        );
        assert_eq!(
            with(json!({"envoy": {"filterRegex": "(a"}})),
            [format!(
                "{at}.envoy.filterRegex: provided regexp isn't correct: error parsing regexp: missing closing ): `(a`"
            )]
        );
        assert_eq!(
            with(json!({"aggregate": [{"name": "a"}, {"name": "a"}]})),
            [format!("{at}.aggregate[1].name: duplicate entry: a, values have to be unique")]
        );
        assert_eq!(
            with(json!({"port": 1.5})),
            [format!("{at}: could not parse config: json: cannot unmarshal number 1.5 into Go value of type uint32")]
        );
        assert_eq!(
            faults(Kind::Mesh, json!({"metrics": {"enabledBackend": "b", "backends": [{"name": "a", "type": "x"}]}})),
            [
                r#"metrics.backends[0].type: unknown backend type. Available backends: "prometheus""#,
                "metrics.enabledBackend: has to be set to one of the backends in the mesh"
            ]
        );
    }

    #[test]
    fn metrics_settings_are_filled_on_write() {
        let filled = |conf: Value| {
            let mut mesh: Mesh =
                from_value(&json!({"metrics": {"backends": [{"type": "prometheus", "conf": conf}]}})).unwrap();
            mesh.complete().unwrap();
            let bytes = mesh.encode_to_vec();
            kds_proto::json::to_value(&Mesh::full_name(), &bytes).unwrap()["metrics"]["backends"][0]["conf"].clone()
        };
        let tags = json!({"kuma.io/service": "dataplane-metrics"});
        assert_eq!(filled(json!({})), json!({"port": 5670, "path": "/metrics", "tags": tags, "tls": {}}));
        assert_eq!(
            filled(json!({"skipMTLS": true, "port": 1, "path": "/x", "tags": {"a": "b"}})),
            json!({"port": 1, "path": "/x", "tags": {"a": "b"}, "skipMTLS": true, "tls": {"mode": "disabled"}})
        );
        let provided = filled(json!({"skipMTLS": true, "tls": {"mode": "providedTLS"}}));
        assert_eq!((&provided["tls"]["mode"], provided.get("skipMTLS")), (&json!("providedTLS"), None));
    }

    #[test]
    fn the_ca_of_a_mesh_changes_only_when_mtls_is_off() {
        let mesh = |enabled: &str| -> Mesh {
            from_value(&json!({"mtls": {"enabledBackend": enabled, "backends": [{"name": "a", "type": "builtin"}]}}))
                .unwrap()
        };
        let faults = |stored: Option<Mesh>, name: &str, written: Mesh| {
            let mut found = Violations::default();
            written.validate_write(stored.as_ref(), &meta(Kind::Mesh, name, &[]), &mut found);
            found.to_string()
        };
        assert!(
            faults(Some(mesh("a")), "m", mesh("b"))
                .starts_with("mtls.enabledBackend: Changing CA when mTLS is enabled")
        );
        for (before, after) in [("a", "a"), ("", "a"), ("a", "")] {
            assert_eq!(faults(Some(mesh(before)), "m", mesh(after)), "");
        }
        let long = "a".repeat(64);
        assert_eq!(faults(None, &long, Mesh::default()), "name: cannot be longer than 63 characters");
        assert_eq!(faults(Some(Mesh::default()), &long, Mesh::default()), "");
    }
}
