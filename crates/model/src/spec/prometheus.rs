//! Settings of the older Prometheus metrics, which a `Mesh` has and a `Dataplane` may override.

use std::collections::BTreeSet;

use kds_proto::kuma::mesh::v1alpha1::prometheus_tls_config::Mode;
use kds_proto::kuma::mesh::v1alpha1::{MetricsBackend, PrometheusMetricsBackendConfig, PrometheusTlsConfig};

use crate::labels::SERVICE_TAG;
use crate::spec::proto_json::{self, from_struct, to_struct};
use crate::spec::regexp;
use crate::violation::{Path, Violations};

/// The only type of metrics backend.
const TYPE: &str = "prometheus";

/// Adds what is wrong with a metrics backend, its name apart.
pub(super) fn check_backend(at: &Path, backend: &MetricsBackend, found: &mut Violations) {
    if backend.r#type != TYPE {
        found.add(&at.field("type"), format!("unknown backend type. Available backends: {TYPE:?}"));
        return;
    }
    let at = at.field("conf");
    match from_struct::<PrometheusMetricsBackendConfig>(backend.conf.as_ref()) {
        Err(fault) => found.add(&at, format!("could not parse config: {fault}")),
        Ok(conf) => check(&at, &conf, found),
    }
}

fn check(at: &Path, conf: &PrometheusMetricsBackendConfig, found: &mut Violations) {
    if let (Some(skip_mtls), Some(tls)) = (conf.skip_mtls, &conf.tls) {
        let agree = matches!((skip_mtls, tls.mode()), (false, Mode::ActiveMtlsBackend) | (true, Mode::Disabled));
        if !agree {
            found.add(at, "skipMTLS and tls configuration cannot be defined together");
            return;
        }
    }
    if let Err(fault) = regexp::check(conf.envoy.as_ref().map_or("", |envoy| &envoy.filter_regex)) {
        found.add(&at.field("envoy.filterRegex"), format!("provided regexp isn't correct: {fault}"));
        return;
    }
    let mut names = BTreeSet::new();
    for (position, aggregated) in conf.aggregate.iter().enumerate() {
        if !names.insert(&aggregated.name) {
            let reason = format!("duplicate entry: {}, values have to be unique", aggregated.name);
            found.add(&at.field("aggregate").index(position).field("name"), reason);
        }
    }
}

/// Writes out the settings that a mesh's metrics backend leaves to Kuma, as is done before a `Mesh` is stored.
///
/// # Errors
/// The settings do not have their shape, which validation says too.
pub(super) fn fill_defaults(backend: &mut MetricsBackend) -> Result<(), proto_json::Error> {
    if backend.r#type != TYPE {
        return Ok(());
    }
    let mut conf = from_struct::<PrometheusMetricsBackendConfig>(backend.conf.as_ref())?;
    let mode = if conf.skip_mtls == Some(true) { Mode::Disabled } else { Mode::ActiveMtlsBackend };
    let tls = conf.tls.get_or_insert(PrometheusTlsConfig { mode: mode.into() });
    if tls.mode() == Mode::ProvidedTls {
        conf.skip_mtls = None;
    }
    if conf.port == 0 {
        conf.port = 5670;
    }
    if conf.path.is_empty() {
        conf.path = "/metrics".to_owned();
    }
    if conf.tags.is_empty() {
        conf.tags.insert(SERVICE_TAG.to_owned(), "dataplane-metrics".to_owned());
    }
    backend.conf = Some(to_struct(&conf)?);
    Ok(())
}
