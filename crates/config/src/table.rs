//! The table of keys: what Kuma calls them, what they hold, their defaults, and which of our control planes reads them.
//! Nothing else in the workspace lists keys.
//!
//! The order is that of Kuma's `/config` (api-and-kumactl 5.3). Keys marked `ours` are not Kuma's.

mod kubernetes;

use std::collections::HashMap;
use std::sync::LazyLock;

use model::Kind as ResourceKind;

use crate::key::{BOTH, GLOBAL, Key, NOWHERE, Role, ZONE, key};
use crate::value::Kind::{Bool, Documents, Duration, Int, Text, Texts, Uint, Uint16, Uint32, Uint64};

/// Every key, in order.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    BEFORE_KUBERNETES.iter().chain(kubernetes::KEYS).chain(AFTER_KUBERNETES)
}

/// Position of a key in [`keys`]; paths are compared without case, as Go's JSON reader does.
pub(crate) fn position(path: &str) -> Option<usize> {
    static POSITIONS: LazyLock<HashMap<String, usize>> =
        LazyLock::new(|| keys().enumerate().map(|(at, key)| (key.path.to_lowercase(), at)).collect());
    POSITIONS.get(&path.to_lowercase()).copied()
}

/// Whether keys lie below a path.
pub(crate) fn is_section(path: &str) -> bool {
    let below = path.to_lowercase() + ".";
    keys().any(|key| key.path.to_lowercase().starts_with(&below))
}

/// Variables that Kuma's published sample names, but neither Kuma nor we read, and the right names (5.2).
pub(crate) const MISPRINTS: &[(&str, &str)] = &[
    ("KUMA_STORE_POSTGRES_TLS_ROOT_CERT_PATH", "KUMA_STORE_POSTGRES_TLS_CA_PATH"),
    ("KUMA_API_SERVER_HTTPS_CLIENT_CERTS_CA_FILE", "KUMA_API_SERVER_HTTPS_TLS_CA_FILE"),
    ("KUMA_DNS_SERVICE_SERVICE_VIP_PORT", "KUMA_DNS_SERVER_SERVICE_VIP_PORT"),
];

fn mode(role: Role) -> String {
    role.mode().to_owned()
}

/// Kinds that can be switched off and are policies.
fn policies(_: Role) -> String {
    switchable(true)
}

/// Kinds that can be switched off and are no policies.
fn core_resources(_: Role) -> String {
    switchable(false)
}

fn switchable(policy: bool) -> String {
    let infos = ResourceKind::ALL.iter().map(|kind| kind.info());
    let mut paths: Vec<&str> =
        infos.filter(|info| info.plugin && info.policy.is_some() == policy).map(|info| info.path).collect();
    paths.sort_unstable();
    paths.join(",")
}

static BEFORE_KUBERNETES: &[Key] = &[
    key("general.dnsCacheTTL", Duration, "10s", ZONE),
    key("general.tlsCertFile", Text, "", BOTH),
    key("general.tlsKeyFile", Text, "", BOTH),
    key("general.tlsMinVersion", Text, "TLSv1_2", BOTH),
    key("general.tlsMaxVersion", Text, "", BOTH),
    key("general.tlsCipherSuites", Texts, "", BOTH),
    key("general.workDir", Text, "", BOTH),
    key("general.resilientComponentBaseBackoff", Duration, "5s", BOTH),
    key("general.resilientComponentMaxBackoff", Duration, "1m0s", BOTH),
    key("environment", Text, "universal", BOTH).omit_empty(),
    key("mode", Text, "", BOTH).computed(mode),
    key("store.type", Text, "sqlite", BOTH),
    key("store.postgres.host", Text, "127.0.0.1", BOTH),
    key("store.postgres.port", Int, "15432", BOTH),
    key("store.postgres.user", Text, "kuma", BOTH),
    key("store.postgres.password", Text, "kuma", BOTH).secret(),
    key("store.postgres.dbName", Text, "kuma", BOTH),
    key("store.postgres.driverName", Text, "pgx", NOWHERE),
    key("store.postgres.connectionTimeout", Int, "5", BOTH),
    key("store.postgres.maxConnectionIdleTime", Duration, "30m0s", BOTH),
    key("store.postgres.maxConnectionLifetime", Duration, "1h0m0s", BOTH),
    key("store.postgres.maxConnectionLifetimeJitter", Duration, "1m0s", NOWHERE),
    key("store.postgres.healthCheckInterval", Duration, "30s", NOWHERE),
    key("store.postgres.minOpenConnections", Int, "0", BOTH),
    key("store.postgres.maxOpenConnections", Int, "50", BOTH),
    key("store.postgres.maxIdleConnections", Int, "50", NOWHERE),
    key("store.postgres.tls.mode", Text, "disable", BOTH),
    key("store.postgres.tls.certPath", Text, "", BOTH),
    key("store.postgres.tls.keyPath", Text, "", BOTH),
    key("store.postgres.tls.caPath", Text, "", BOTH),
    key("store.postgres.tls.disableSSLSNI", Bool, "false", NOWHERE),
    key("store.postgres.maxListQueryElements", Uint32, "0", NOWHERE),
    key("store.postgres.readReplica.host", Text, "", NOWHERE),
    key("store.postgres.readReplica.port", Uint, "5432", NOWHERE),
    key("store.postgres.readReplica.ratio", Uint, "100", NOWHERE),
    key("store.kubernetes.systemNamespace", Text, "kuma-system", NOWHERE),
    key("store.cache.enabled", Bool, "true", NOWHERE),
    key("store.cache.expirationTime", Duration, "1s", NOWHERE),
    key("store.upsert.conflictRetryBaseBackoff", Duration, "200ms", NOWHERE),
    key("store.upsert.conflictRetryMaxTimes", Uint, "10", NOWHERE),
    key("store.upsert.conflictRetryJitterPercent", Uint, "30", NOWHERE),
    key("store.unsafeDelete", Bool, "false", BOTH),
    key("store.sqlite.path", Text, "", BOTH).ours(),
    key("store.encryption.keyFile", Text, "", BOTH).ours(),
    key("bootstrapServer.params.adminAddress", Text, "127.0.0.1", ZONE),
    key("bootstrapServer.params.adminPort", Uint32, "9901", ZONE),
    key("bootstrapServer.params.adminAccessLogPath", Text, "/dev/null", ZONE),
    key("bootstrapServer.params.xdsHost", Text, "", ZONE),
    key("bootstrapServer.params.xdsPort", Uint32, "0", ZONE),
    key("bootstrapServer.params.xdsConnectTimeout", Duration, "1s", ZONE),
    key("bootstrapServer.params.corefileTemplatePath", Text, "", ZONE),
    key("xdsServer.dataplaneConfigurationRefreshInterval", Duration, "1s", NOWHERE),
    key("xdsServer.dataplaneStatusFlushInterval", Duration, "10s", ZONE),
    key("xdsServer.dataplaneDeregistrationDelay", Duration, "10s", ZONE).env("KUMA_XDS_DATAPLANE_DEREGISTRATION_DELAY"),
    key("xdsServer.nackBackoff", Duration, "5s", NOWHERE),
    key("monitoringAssignmentServer.port", Uint32, "5676", NOWHERE),
    key("monitoringAssignmentServer.defaultFetchTimeout", Duration, "30s", NOWHERE),
    key("monitoringAssignmentServer.apiVersions", Texts, "v1", NOWHERE),
    key("monitoringAssignmentServer.assignmentRefreshInterval", Duration, "1s", NOWHERE),
    key("monitoringAssignmentServer.tlsEnabled", Bool, "false", NOWHERE),
    key("monitoringAssignmentServer.tlsCertFile", Text, "", NOWHERE),
    key("monitoringAssignmentServer.tlsKeyFile", Text, "", NOWHERE),
    key("monitoringAssignmentServer.tlsMinVersion", Text, "TLSv1_2", NOWHERE),
    key("monitoringAssignmentServer.tlsMaxVersion", Text, "", NOWHERE),
    key("monitoringAssignmentServer.tlsCipherSuites", Texts, "", NOWHERE),
    key("apiServer.readOnly", Bool, "false", BOTH),
    key("apiServer.corsAllowedDomains", Texts, "", BOTH),
    key("apiServer.http.enabled", Bool, "true", BOTH),
    key("apiServer.http.interface", Text, "0.0.0.0", BOTH),
    key("apiServer.http.port", Uint32, "5681", BOTH),
    key("apiServer.https.enabled", Bool, "true", BOTH),
    key("apiServer.https.interface", Text, "0.0.0.0", BOTH),
    key("apiServer.https.port", Uint32, "5682", BOTH),
    key("apiServer.https.tlsCertFile", Text, "", BOTH),
    key("apiServer.https.tlsKeyFile", Text, "", BOTH),
    key("apiServer.https.tlsMinVersion", Text, "TLSv1_2", BOTH),
    key("apiServer.https.tlsMaxVersion", Text, "", BOTH),
    key("apiServer.https.tlsCipherSuites", Texts, "", BOTH),
    key("apiServer.https.requireClientCert", Bool, "false", BOTH),
    key("apiServer.https.tlsCaFile", Text, "", BOTH),
    key("apiServer.auth.clientCertsDir", Text, "", BOTH),
    key("apiServer.authn.type", Text, "tokens", BOTH),
    key("apiServer.authn.localhostIsAdmin", Bool, "true", BOTH),
    key("apiServer.authn.tokens.bootstrapAdminToken", Bool, "true", BOTH),
    key("apiServer.authn.tokens.enableIssuer", Bool, "true", BOTH),
    key("apiServer.authn.tokens.validator.useSecrets", Bool, "true", BOTH),
    key("apiServer.authn.tokens.validator.publicKeys", Documents, "", BOTH).no_env(),
    key("apiServer.basePath", Text, "/", BOTH),
    key("apiServer.rootUrl", Text, "", NOWHERE),
    key("apiServer.gui.enabled", Bool, "true", NOWHERE),
    key("apiServer.gui.rootUrl", Text, "", NOWHERE),
    key("apiServer.gui.basePath", Text, "/gui", NOWHERE),
    key("apiServer.limits.maxBodySize", Uint32, "10485760", BOTH).ours(),
    key("apiServer.limits.maxHeaderSize", Uint32, "65536", BOTH).ours(),
    key("apiServer.limits.maxConcurrentRequests", Uint32, "1024", BOTH).ours(),
    key("apiServer.limits.maxConnections", Uint32, "16384", BOTH).ours(),
    key("apiServer.limits.bodyTimeout", Duration, "30s", BOTH).ours(),
    key("apiServer.limits.requestTimeout", Duration, "1m0s", BOTH).ours(),
    key("apiServer.limits.idleTimeout", Duration, "30s", BOTH).ours(),
    key("apiServer.audit.path", Text, "", BOTH).ours(),
    key("apiServer.audit.maxSizeMegabytes", Uint32, "100", BOTH).ours(),
    key("apiServer.audit.maxFiles", Uint32, "10", BOTH).ours(),
];

static AFTER_KUBERNETES: &[Key] = &[
    key("runtime.universal.dataplaneCleanupAge", Duration, "72h0m0s", ZONE),
    key("runtime.universal.zoneResourceCleanupAge", Duration, "72h0m0s", ZONE),
    key("runtime.universal.vipRefreshInterval", Duration, "500ms", NOWHERE),
    key("runtime.universal.spire.socketPath", Text, "/tmp/spire-agent/public/api.sock", ZONE),
    key("runtime.universal.workload.generationInterval", Duration, "2s", NOWHERE),
    key("defaults.skipMeshCreation", Bool, "false", BOTH),
    key("defaults.skipTenantResources", Bool, "false", BOTH),
    key("defaults.createMeshRoutingResources", Bool, "false", BOTH),
    key("defaults.SkipHostnameGenerators", Bool, "false", BOTH),
    key("metrics.dataplane.subscriptionLimit", Int, "2", ZONE),
    key("metrics.dataplane.idleTimeout", Duration, "5m0s", ZONE),
    key("metrics.zone.subscriptionLimit", Int, "10", GLOBAL),
    key("metrics.zone.idleTimeout", Duration, "5m0s", GLOBAL),
    key("metrics.zone.compactFinishedSubscriptions", Bool, "false", GLOBAL),
    key("metrics.mesh.minResyncTimeout", Duration, "0s", NOWHERE),
    key("metrics.mesh.maxResyncTimeout", Duration, "0s", NOWHERE),
    key("metrics.mesh.bufferSize", Int, "1000", NOWHERE),
    key("metrics.mesh.minResyncInterval", Duration, "1s", BOTH),
    key("metrics.mesh.fullResyncInterval", Duration, "20s", NOWHERE),
    key("metrics.mesh.eventProcessors", Int, "1", NOWHERE),
    key("metrics.controlPlane.reportResourcesCount", Bool, "true", NOWHERE),
    key("reports.enabled", Bool, "false", NOWHERE),
    key("multizone.global.kds.grpcPort", Uint32, "5685", GLOBAL),
    key("multizone.global.kds.refreshInterval", Duration, "1s", NOWHERE),
    key("multizone.global.kds.zoneInsightFlushInterval", Duration, "10s", GLOBAL),
    key("multizone.global.kds.tlsEnabled", Bool, "true", GLOBAL),
    key("multizone.global.kds.tlsCertFile", Text, "", GLOBAL),
    key("multizone.global.kds.tlsKeyFile", Text, "", GLOBAL),
    key("multizone.global.kds.tlsMinVersion", Text, "TLSv1_2", GLOBAL),
    key("multizone.global.kds.tlsMaxVersion", Text, "", GLOBAL),
    key("multizone.global.kds.tlsCipherSuites", Texts, "", GLOBAL),
    key("multizone.global.kds.maxMsgSize", Uint32, "10485760", GLOBAL),
    key("multizone.global.kds.msgSendTimeout", Duration, "1m0s", GLOBAL),
    key("multizone.global.kds.nackBackoff", Duration, "5s", GLOBAL),
    key("multizone.global.kds.responseBackoff", Duration, "0s", NOWHERE),
    key("multizone.global.kds.zoneHealthCheck.pollInterval", Duration, "0s", GLOBAL),
    key("multizone.global.kds.zoneHealthCheck.timeout", Duration, "0s", GLOBAL),
    key("multizone.global.kds.zoneHealthCheck.closeStaleConn", Bool, "false", GLOBAL),
    key("multizone.global.kds.tracing.enabled", Bool, "true", GLOBAL).omit_empty(),
    key("multizone.global.kds.labels.skipPrefixes", Texts, "", GLOBAL).omit_empty(),
    key("multizone.global.kds.auth.type", Text, "cpToken", GLOBAL).ours(),
    key("multizone.global.kds.auth.exceptZones", Texts, "", GLOBAL).ours(),
    key("multizone.global.kds.auth.allowPlaintext", Bool, "false", GLOBAL).ours(),
    key("multizone.zone.name", Text, "default", ZONE).omit_empty(),
    key("multizone.zone.globalAddress", Text, "", ZONE).omit_empty(),
    key("multizone.zone.kds.refreshInterval", Duration, "1s", NOWHERE),
    key("multizone.zone.kds.tlsSkipVerify", Bool, "false", ZONE),
    key("multizone.zone.kds.rootCaFile", Text, "", ZONE),
    key("multizone.zone.kds.maxMsgSize", Uint32, "10485760", ZONE),
    key("multizone.zone.kds.msgSendTimeout", Duration, "1m0s", ZONE),
    key("multizone.zone.kds.nackBackoff", Duration, "5s", ZONE),
    key("multizone.zone.kds.responseBackoff", Duration, "0s", NOWHERE),
    key("multizone.zone.kds.labels.skipPrefixes", Texts, "", ZONE).omit_empty(),
    key("multizone.zone.kds.auth.cpTokenPath", Text, "", ZONE).ours(),
    key("multizone.zone.kds.auth.cpTokenInline", Text, "", ZONE).ours().secret(),
    key("multizone.zone.kds.auth.allowPlaintext", Bool, "false", ZONE).ours(),
    key("multizone.zone.migrateFrom.zone", Text, "", ZONE).ours(),
    key("multizone.zone.migrateFrom.global", Text, "", ZONE).ours(),
    key("multizone.zone.disableOriginLabelValidation", Bool, "false", ZONE).omit_empty(),
    key("multizone.zone.ingressUpdateInterval", Duration, "1s", NOWHERE),
    key("dnsServer.domain", Text, "mesh", ZONE),
    key("dnsServer.CIDR", Text, "240.0.0.0/4", ZONE),
    key("dnsServer.serviceVipEnabled", Bool, "true", ZONE),
    key("dnsServer.serviceVipPort", Uint32, "80", ZONE),
    key("diagnostics.serverPort", Uint32, "5680", BOTH),
    key("diagnostics.debugEndpoints", Bool, "false", NOWHERE),
    key("diagnostics.tlsEnabled", Bool, "false", BOTH),
    key("diagnostics.tlsCertFile", Text, "", BOTH),
    key("diagnostics.tlsKeyFile", Text, "", BOTH),
    key("diagnostics.tlsMinVersion", Text, "TLSv1_2", BOTH),
    key("diagnostics.tlsMaxVersion", Text, "", BOTH),
    key("diagnostics.tlsCipherSuites", Texts, "", BOTH),
    key("dpServer.port", Int, "5678", BOTH),
    key("dpServer.tlsCertFile", Text, "", BOTH),
    key("dpServer.tlsKeyFile", Text, "", BOTH),
    key("dpServer.tlsMinVersion", Text, "TLSv1_2", BOTH),
    key("dpServer.tlsMaxVersion", Text, "", BOTH),
    key("dpServer.tlsCipherSuites", Texts, "", BOTH),
    key("dpServer.readHeaderTimeout", Duration, "5s", ZONE),
    key("dpServer.gracefulShutdownTimeout", Duration, "10s", ZONE),
    key("dpServer.authn.dpProxy.type", Text, "", ZONE),
    key("dpServer.authn.dpProxy.dpToken.enableIssuer", Bool, "true", BOTH),
    key("dpServer.authn.dpProxy.dpToken.validator.useSecrets", Bool, "true", ZONE),
    key("dpServer.authn.dpProxy.dpToken.validator.publicKeys", Documents, "", ZONE).no_env(),
    key("dpServer.authn.zoneProxy.type", Text, "", ZONE),
    key("dpServer.authn.zoneProxy.zoneToken.enableIssuer", Bool, "true", BOTH),
    key("dpServer.authn.zoneProxy.zoneToken.validator.useSecrets", Bool, "true", BOTH),
    key("dpServer.authn.zoneProxy.zoneToken.validator.publicKeys", Documents, "", BOTH).no_env(),
    key("dpServer.authn.enableReloadableTokens", Bool, "false", ZONE),
    key("dpServer.identity.keyType", Text, "ecdsa-p256", ZONE).ours(),
    key("dpServer.hds.enabled", Bool, "true", ZONE),
    key("dpServer.hds.interval", Duration, "5s", ZONE),
    key("dpServer.hds.refreshInterval", Duration, "10s", ZONE),
    key("dpServer.hds.checkDefaults.timeout", Duration, "2s", ZONE).env("KUMA_DP_SERVER_HDS_CHECK_TIMEOUT"),
    key("dpServer.hds.checkDefaults.interval", Duration, "1s", ZONE).env("KUMA_DP_SERVER_HDS_CHECK_INTERVAL"),
    key("dpServer.hds.checkDefaults.noTrafficInterval", Duration, "1s", ZONE)
        .env("KUMA_DP_SERVER_HDS_CHECK_NO_TRAFFIC_INTERVAL"),
    key("dpServer.hds.checkDefaults.healthyThreshold", Uint32, "1", ZONE)
        .env("KUMA_DP_SERVER_HDS_CHECK_HEALTHY_THRESHOLD"),
    key("dpServer.hds.checkDefaults.unhealthyThreshold", Uint32, "1", ZONE)
        .env("KUMA_DP_SERVER_HDS_CHECK_UNHEALTHY_THRESHOLD"),
    key("access.type", Text, "static", BOTH),
    key("access.static.adminResources.users", Texts, "mesh-system:admin", BOTH),
    key("access.static.adminResources.groups", Texts, "mesh-system:admin", BOTH),
    key("access.static.generateDpToken.users", Texts, "mesh-system:admin", BOTH),
    key("access.static.generateDpToken.groups", Texts, "mesh-system:admin", BOTH),
    key("access.static.generateUserToken.users", Texts, "mesh-system:admin", BOTH),
    key("access.static.generateUserToken.groups", Texts, "mesh-system:admin", BOTH),
    key("access.static.generateZoneToken.users", Texts, "mesh-system:admin", BOTH),
    key("access.static.generateZoneToken.groups", Texts, "mesh-system:admin", BOTH),
    key("access.static.viewConfigDump.users", Texts, "", BOTH).env("KUMA_ACCESS_STATIC_GET_CONFIG_DUMP_USERS"),
    key("access.static.viewConfigDump.groups", Texts, "mesh-system:unauthenticated,mesh-system:authenticated", BOTH)
        .env("KUMA_ACCESS_STATIC_GET_CONFIG_DUMP_GROUPS"),
    key("access.static.viewStats.users", Texts, "", BOTH),
    key("access.static.viewStats.groups", Texts, "mesh-system:unauthenticated,mesh-system:authenticated", BOTH),
    key("access.static.viewClusters.users", Texts, "", BOTH),
    key("access.static.viewClusters.groups", Texts, "mesh-system:unauthenticated,mesh-system:authenticated", BOTH),
    key("access.static.controlPlaneMetadata.users", Texts, "", BOTH),
    key(
        "access.static.controlPlaneMetadata.groups",
        Texts,
        "mesh-system:unauthenticated,mesh-system:authenticated",
        BOTH,
    ),
    key("access.static.write.users", Texts, "", BOTH).ours(),
    key("access.static.write.groups", Texts, "mesh-system:authenticated", BOTH).ours(),
    key("experimental.kubeOutboundsAsVIPs", Bool, "true", NOWHERE).env("KUMA_EXPERIMENTAL_KUBE_OUTBOUNDS_AS_VIPS"),
    key("experimental.useTagFirstVirtualOutboundModel", Bool, "false", NOWHERE),
    key("experimental.ingressTagFilters", Texts, "", ZONE),
    key("experimental.kdsEventBasedWatchdog.enabled", Bool, "false", NOWHERE),
    key("experimental.kdsEventBasedWatchdog.flushInterval", Duration, "5s", NOWHERE),
    key("experimental.kdsEventBasedWatchdog.fullResyncInterval", Duration, "1m0s", NOWHERE),
    key("experimental.kdsEventBasedWatchdog.delayFullResync", Bool, "false", NOWHERE),
    key("experimental.autoReachableServices", Bool, "false", ZONE),
    key("experimental.sidecarContainers", Bool, "false", NOWHERE),
    key("experimental.deltaXds", Bool, "false", ZONE),
    key("proxy.gateway.globalDownstreamMaxConnections", Uint64, "50000", ZONE),
    key("interCp.catalog.instanceAddress", Text, "", GLOBAL),
    key("interCp.catalog.heartbeatInterval", Duration, "5s", GLOBAL),
    key("interCp.catalog.writerInterval", Duration, "15s", GLOBAL),
    key("interCp.server.port", Uint16, "5683", GLOBAL),
    key("interCp.server.tlsMinVersion", Text, "TLSv1_2", GLOBAL),
    key("interCp.server.tlsMaxVersion", Text, "", GLOBAL),
    key("interCp.server.tlsCipherSuites", Texts, "", GLOBAL),
    key("tracing.openTelemetry.enabled", Bool, "false", BOTH).env("KUMA_TRACING_OPENTELEMETRY_ENABLED").omit_empty(),
    key("tracing.openTelemetry.endpoint", Text, "", BOTH).env("KUMA_TRACING_OPENTELEMETRY_ENDPOINT").omit_empty(),
    key("eventBus.bufferSize", Uint, "100", NOWHERE),
    key("policies.pluginPoliciesEnabled", Texts, "", BOTH).computed(policies).env("KUMA_PLUGIN_POLICIES_ENABLED"),
    key("coreResources.enabled", Texts, "", BOTH).computed(core_resources),
    key("coreResources.status.meshMultiZoneServiceInterval", Duration, "5s", NOWHERE),
    key("coreResources.status.meshServiceInterval", Duration, "5s", NOWHERE),
    key("coreResources.status.meshIdentityInterval", Duration, "5s", NOWHERE),
    key("coreResources.status.workloadInterval", Duration, "5s", NOWHERE),
    key("ipam.meshService.cidr", Text, "241.0.0.0/8", ZONE),
    key("ipam.meshExternalService.cidr", Text, "242.0.0.0/8", ZONE),
    key("ipam.meshMultiZoneService.cidr", Text, "243.0.0.0/8", ZONE),
    key("ipam.allocationInterval", Duration, "5s", NOWHERE),
    key(
        "ipam.knownInternalCIDRs",
        Texts,
        "10.0.0.0/8,192.168.0.0/16,172.16.0.0/12,fc00::/7,fd00::/8,127.0.0.1/32,::1/128",
        ZONE,
    )
    .env("KUMA_IPAM_KNOWN_INTERNAL_CIDRS"),
    key("meshService.generationInterval", Duration, "2s", NOWHERE),
    key("meshService.deletionGracePeriod", Duration, "1h0m0s", ZONE),
    key("logging.level", Text, "info", BOTH).ours(),
    key("logging.format", Text, "text", BOTH).ours(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_and_every_name_is_used_once() {
        let (mut paths, mut variables) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        for key in keys() {
            key.kind.parse(&key.default_text(Role::Zone)).unwrap_or_else(|error| panic!("{}: {error}", key.path));
            assert!(paths.insert(key.path.to_lowercase()), "{} twice", key.path);
            assert!(key.variable().is_none_or(|name| variables.insert(name)), "variable of {} twice", key.path);
            assert!(!is_section(key.path), "{} is a key and a section", key.path);
        }
        for (wrong, right) in MISPRINTS {
            assert!(!variables.contains(*wrong) && variables.contains(*right), "{wrong}");
        }
    }

    /// API-20: the odd names are right.
    #[test]
    fn variables_are_named_as_kuma_names_them() {
        for (path, variable) in [
            ("store.postgres.tls.caPath", "KUMA_STORE_POSTGRES_TLS_CA_PATH"),
            ("apiServer.https.tlsCaFile", "KUMA_API_SERVER_HTTPS_TLS_CA_FILE"),
            ("dnsServer.serviceVipPort", "KUMA_DNS_SERVER_SERVICE_VIP_PORT"),
            ("access.static.viewConfigDump.users", "KUMA_ACCESS_STATIC_GET_CONFIG_DUMP_USERS"),
            ("xdsServer.dataplaneDeregistrationDelay", "KUMA_XDS_DATAPLANE_DEREGISTRATION_DELAY"),
            ("multizone.zone.disableOriginLabelValidation", "KUMA_MULTIZONE_ZONE_DISABLE_ORIGIN_LABEL_VALIDATION"),
            ("policies.pluginPoliciesEnabled", "KUMA_PLUGIN_POLICIES_ENABLED"),
            (
                "runtime.kubernetes.injector.sidecarContainer.gid",
                "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_GUI",
            ),
        ] {
            let key = keys().find(|key| key.path == path).unwrap();
            assert_eq!(key.variable().as_deref(), Some(variable));
        }
    }
}
