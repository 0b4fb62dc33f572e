//! The configuration that Envoy starts with (zone-dataplane 1.3).

use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kds_proto::bootstrap::Request;
use kds_proto::kuma::mesh::v1alpha1::Dataplane;
use serde_json::{Map, Value, json};

use super::Settings;

/// Static secret with what the control plane's certificate is verified with.
const VALIDATION: &str = "cp_validation_ctx";
/// Longest path of a socket without its `.sock`, in bytes.
const SOCKET_PATH: usize = 98;
/// Envoy's own tags of statistics: a tag and what gives its value.
const STATS_TAGS: [(&str, &str); 6] = [
    ("name", r"^grpc\.((.+)\.)"),
    ("status", "^grpc.*streams_closed(_([0-9]+))"),
    ("kafka_name", r"^kafka(\.(\S*[0-9]))\."),
    ("kafka_type", r"^kafka\..*\.(.*?(?=_duration|$))"),
    ("worker", r"(worker_([0-9]+)\.)"),
    ("listener", r"((.+?)\.)rbac\."),
];
const FIXED_HEAP: &str = "envoy.resource_monitors.fixed_heap";

/// What the resource of a proxy says.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Name of Envoy's own cluster.
    pub cluster: String,
    /// Port of Envoy's own interface; 0 for the default.
    pub admin_port: u32,
    pub builtin_gateway: bool,
    /// Set for dataplanes alone.
    pub dataplane: Option<Dataplane>,
    /// Whether the services of its mesh are resources and nothing else.
    pub exclusive: bool,
}

impl Facts {
    pub fn of_zone(cluster: &str, admin_port: u32) -> Self {
        Self { cluster: cluster.to_owned(), admin_port, ..Self::default() }
    }
}

/// Where the control plane is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Whether the name has no IPv6 address.
    pub v4_only: bool,
}

/// All of it; keys are sorted as the real system's are.
pub(super) fn document(
    request: &Request,
    facts: &Facts,
    settings: &Settings,
    addresses: Addresses<'_>,
    authority: &str,
) -> Value {
    let maker = Maker { request, facts, settings, addresses, authority };
    let mut document = maker.document();
    document.sort_all_objects();
    document
}

struct Maker<'a> {
    request: &'a Request,
    facts: &'a Facts,
    settings: &'a Settings,
    addresses: Addresses<'a>,
    authority: &'a str,
}

impl Maker<'_> {
    fn document(&self) -> Value {
        let everything = json!({"ads": {}, "initialFetchTimeout": "0s", "resourceApiVersion": "V3"});
        let api = if self.request.has_feature("feature-delta-grpc") { "DELTA_GRPC" } else { "GRPC" };
        let mut document = json!({
            "node": self.node(),
            "layeredRuntime": {"layers": self.runtime_layers()},
            "statsConfig": {"statsTags": STATS_TAGS.map(|(name, regex)| json!({"tagName": name, "regex": regex}))},
            "dynamicResources": {"adsConfig": self.source(api), "cdsConfig": everything, "ldsConfig": everything},
            "staticResources": {"clusters": self.clusters(), "secrets": [self.validation()]},
            "defaultRegexEngine": {
                "name": "envoy.regex_engines.google_re2",
                "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2"},
            },
        });
        if self.admin_port() != 0 {
            document["admin"] = self.admin();
        }
        // Workloads of dataplanes alone are probed.
        if self.settings.hds && self.request.proxy_type == "dataplane" {
            document["hdsConfig"] = self.source("GRPC");
        }
        if self.facts.builtin_gateway {
            document["overloadManager"] = self.overload_manager();
        }
        document
    }

    fn node(&self) -> Value {
        let Request { mesh, name, .. } = self.request;
        json!({"id": format!("{mesh}.{name}"), "cluster": self.facts.cluster, "metadata": self.metadata()})
    }

    fn metadata(&self) -> Value {
        let request = self.request;
        let mut metadata = Map::new();
        let mut set = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        let mut version = json!(request.version);
        for program in version.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
            program.retain(|_, part| *part != json!("") && *part != json!(false));
        }
        set("version", version);
        set("features", json!(request.features));
        set("workdir", json!(request.workdir));
        set("metricsCertPath", json!(request.metrics_resources.cert_path));
        set("metricsKeyPath", json!(request.metrics_resources.key_path));
        set("systemCaPath", json!(request.system_ca_path));
        set("ipv6Enabled", json!(request.ipv6_enabled));
        set("spireAgent.socketPath", json!(request.spire_resources.socket_path));
        set("dataplane.proxyType", json!(request.proxy_type));
        if !request.dataplane_resource.is_empty() {
            set("dataplane.resource", json!(request.dataplane_resource));
        }
        if self.admin_port() != 0 {
            set("dataplane.admin.port", json!(self.admin_port().to_string()));
            set("dataplane.admin.address", json!(self.settings.admin_address));
        }
        for (key, port) in
            [("dataplane.dns.port", request.dns_port), ("dataplane.readinessReporter.port", request.readiness_port)]
        {
            if port != 0 {
                set(key, json!(port.to_string()));
            }
        }
        if request.app_probe_proxy_enabled {
            set("dataplane.appProbeProxy.enabled", json!("true"));
        }
        if !request.dynamic_metadata.is_empty() {
            set("dynamicMetadata", json!(request.dynamic_metadata));
        }
        if let Some(config) = &request.transparent_proxy {
            set("transparentProxy", config.clone());
        }
        Value::Object(metadata)
    }

    fn admin_port(&self) -> u32 {
        match self.facts.admin_port {
            0 => self.settings.admin_port,
            port => port,
        }
    }

    fn admin(&self) -> Value {
        json!({
            "address": {"socketAddress": {"address": self.settings.admin_address, "portValue": self.admin_port()}},
            "accessLog": [{
                "name": "envoy.access_loggers.file",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": self.settings.admin_access_log,
                },
            }],
        })
    }

    fn runtime_layers(&self) -> Vec<Value> {
        let kuma = json!({
            "name": "kuma",
            "staticLayer": {"re2.max_program_size.error_level": u32::MAX, "re2.max_program_size.warn_level": 1000},
        });
        let gateway = json!({
            "name": "gateway.listeners",
            "rtdsLayer": {"name": "gateway.listeners", "rtdsConfig": {"ads": {}, "resourceApiVersion": "V3"}},
        });
        if self.facts.builtin_gateway { vec![kuma, gateway] } else { vec![kuma] }
    }

    /// Whether the token is read anew from its file, so that Envoy's other gRPC client is used.
    fn reloads_token(&self) -> bool {
        self.settings.reloadable_tokens && !self.request.dataplane_token_path.is_empty()
    }

    /// One of two names of what Envoy has from its start.
    fn name<'n>(&self, legacy: &'n str, unified: &'n str) -> &'n str {
        let is_unified = self.facts.exclusive && self.request.has_feature("feature-unified-resource-naming");
        if is_unified { unified } else { legacy }
    }

    fn ads_cluster(&self) -> &'static str {
        self.name("ads_cluster", "system_ads")
    }

    /// The control plane as a source of configuration.
    fn source(&self, api: &str) -> Value {
        let service = if self.reloads_token() {
            json!({"googleGrpc": self.google_grpc()})
        } else {
            let mut service = json!({"envoyGrpc": {"clusterName": self.ads_cluster()}});
            let token = &self.request.dataplane_token;
            if !token.is_empty() {
                service["initialMetadata"] = json!([{"key": "authorization", "value": token}]);
            }
            service
        };
        json!({
            "apiType": api,
            "transportApiVersion": "V3",
            "setNodeOnFirstMessageOnly": true,
            "grpcServices": [service],
        })
    }

    fn google_grpc(&self) -> Value {
        const PLUGIN: &str = "envoy.grpc_credentials.file_based_metadata";
        let Addresses { host, port, .. } = self.addresses;
        let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let argument = |value: u32| json!({"intValue": value.to_string()});
        json!({
            "targetUri": target,
            "statPrefix": "ads",
            "credentialsFactoryName": PLUGIN,
            "callCredentials": [{"fromPlugin": {
                "name": PLUGIN,
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
                    "secretData": {"filename": self.request.dataplane_token_path},
                },
            }}],
            "channelArgs": {"args": {
                "grpc.keepalive_time_ms": argument(10_000),
                "grpc.keepalive_timeout_ms": argument(30_000),
                "grpc.http2.max_pings_without_data": argument(0),
            }},
            "channelCredentials": {"sslCredentials": {"rootCerts": {"inlineBytes": self.authority_base64()}}},
        })
    }

    fn authority_base64(&self) -> String {
        BASE64_STANDARD.encode(self.authority)
    }

    /// What the control plane's certificate has to be: signed by the authority, for the name that is dialled.
    fn validation(&self) -> Value {
        let matcher = |san_type: &str| json!({"sanType": san_type, "matcher": {"exact": self.addresses.host}});
        json!({
            "name": VALIDATION,
            "validationContext": {
                "matchTypedSubjectAltNames": [matcher("DNS"), matcher("IP_ADDRESS")],
                "trustedCa": {"inlineBytes": self.authority_base64()},
            },
        })
    }

    fn clusters(&self) -> Vec<Value> {
        let name = self.name("access_log_sink", "system_access_log_sink");
        let sink = self.cluster(name, "STATIC", &json!({"pipe": {"path": self.access_log_socket()}}));
        if self.reloads_token() {
            return vec![sink];
        }
        let Addresses { host, port, v4_only } = self.addresses;
        let discovery = if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
        let address = json!({"socketAddress": {"address": host, "portValue": port}});
        let mut ads = self.cluster(self.ads_cluster(), discovery, &address);
        if v4_only {
            ads["dnsLookupFamily"] = json!("V4_ONLY");
        }
        ads["transportSocket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "commonTlsContext": {
                    "tlsParams": {"tlsMinimumProtocolVersion": "TLSv1_2"},
                    "validationContextSdsSecretConfig": {"name": VALIDATION},
                },
            },
        });
        vec![sink, ads]
    }

    /// A cluster of one HTTP/2 endpoint.
    fn cluster(&self, name: &str, discovery: &str, address: &Value) -> Value {
        const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let timeout = prost_types::Duration::try_from(self.settings.connect_timeout).unwrap_or_default();
        json!({
            "name": name,
            "type": discovery,
            "connectTimeout": timeout.to_string(),
            "upstreamConnectionOptions": {
                "tcpKeepalive": {"keepaliveProbes": 3, "keepaliveTime": 10, "keepaliveInterval": 10},
            },
            "loadAssignment": {
                "clusterName": name,
                "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}],
            },
            "typedExtensionProtocolOptions": {
                HTTP: {
                    "@type": format!("type.googleapis.com/{HTTP}"),
                    "explicitHttpConfig": {"http2ProtocolOptions": {}},
                },
            },
        })
    }

    fn access_log_socket(&self) -> String {
        let Request { workdir, name, mesh, .. } = self.request;
        let path = Path::new(workdir).join(format!("kuma-al-{name}-{mesh}"));
        let path = path.to_string_lossy();
        format!("{}.sock", &path[..path.floor_char_boundary(SOCKET_PATH)])
    }

    /// What keeps a gateway from taking more than it bears.
    fn overload_manager(&self) -> Value {
        let connections = match self.settings.gateway_connections {
            0 => 50_000,
            connections => connections,
        };
        let monitors = "type.googleapis.com/envoy.extensions.resource_monitors";
        let mut manager = json!({
            "refreshInterval": "0.250s",
            "resourceMonitors": [{
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typedConfig": {
                    "@type": format!("{monitors}.downstream_connections.v3.DownstreamConnectionsConfig"),
                    "maxActiveDownstreamConnections": connections.to_string(),
                },
            }],
        });
        let heap = self.request.resources.max_heap_size_bytes;
        if heap == 0 {
            return manager;
        }
        if let Some(list) = manager["resourceMonitors"].as_array_mut() {
            list.push(json!({
                "name": FIXED_HEAP,
                "typedConfig": {
                    "@type": format!("{monitors}.fixed_heap.v3.FixedHeapConfig"),
                    "maxHeapSizeBytes": heap.to_string(),
                },
            }));
        }
        let action = |name: &str, at: f64| {
            json!({
                "name": format!("envoy.overload_actions.{name}"),
                "triggers": [{"name": FIXED_HEAP, "threshold": {"value": at}}],
            })
        };
        manager["actions"] = json!([action("shrink_heap", 0.95), action("stop_accepting_requests", 0.98)]);
        manager
    }
}
