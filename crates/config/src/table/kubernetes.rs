//! Keys of Kuma's Kubernetes side, which none of our programs reads.

use crate::key::{Key, NOWHERE, key};
use crate::value::Kind::{Bool, Duration, Int, Int32, Int64, Map, Text, Texts, Uint32, Uints};

pub(super) static KEYS: &[Key] = &[
    key("runtime.kubernetes.admissionServer.address", Text, "", NOWHERE),
    key("runtime.kubernetes.admissionServer.port", Uint32, "5443", NOWHERE),
    key("runtime.kubernetes.admissionServer.certDir", Text, "", NOWHERE),
    key("runtime.kubernetes.injector.sidecarContainer.image", Text, "kuma/kuma-dp:latest", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.uid", Int64, "5678", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.gid", Int64, "5678", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_GUI")
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.adminPort", Uint32, "0", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.drainTime", Duration, "30s", NOWHERE),
    key("runtime.kubernetes.injector.sidecarContainer.readinessProbe.initialDelaySeconds", Int32, "1", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.readinessProbe.timeoutSeconds", Int32, "3", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.readinessProbe.periodSeconds", Int32, "5", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.readinessProbe.successThreshold", Int32, "1", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.readinessProbe.failureThreshold", Int32, "12", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.livenessProbe.initialDelaySeconds", Int32, "60", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.livenessProbe.timeoutSeconds", Int32, "3", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.livenessProbe.periodSeconds", Int32, "5", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.livenessProbe.failureThreshold", Int32, "12", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.startupProbe.initialDelaySeconds", Int32, "1", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.startupProbe.timeoutSeconds", Int32, "3", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.startupProbe.periodSeconds", Int32, "5", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.startupProbe.failureThreshold", Int32, "12", NOWHERE)
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.resources.requests.cpu", Text, "50m", NOWHERE)
        .env("KUMA_INJECTOR_SIDECAR_CONTAINER_RESOURCES_REQUESTS_CPU")
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.resources.requests.memory", Text, "64Mi", NOWHERE)
        .env("KUMA_INJECTOR_SIDECAR_CONTAINER_RESOURCES_REQUESTS_MEMORY")
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.resources.limits.cpu", Text, "1000m", NOWHERE)
        .env("KUMA_INJECTOR_SIDECAR_CONTAINER_RESOURCES_LIMITS_CPU")
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.resources.limits.memory", Text, "512Mi", NOWHERE)
        .env("KUMA_INJECTOR_SIDECAR_CONTAINER_RESOURCES_LIMITS_MEMORY")
        .omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.envVars", Map, "", NOWHERE),
    key("runtime.kubernetes.injector.sidecarContainer.redirectPortInbound", Uint32, "15006", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.ipFamilyMode", Text, "dualstack", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.redirectPortOutbound", Uint32, "15001", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.sidecarContainer.waitForDataplaneReady", Bool, "false", NOWHERE),
    key("runtime.kubernetes.injector.initContainer.image", Text, "kuma/kuma-init:latest", NOWHERE)
        .env("KUMA_INJECTOR_INIT_CONTAINER_IMAGE")
        .omit_empty(),
    key("runtime.kubernetes.injector.containerPatches", Texts, "", NOWHERE),
    key("runtime.kubernetes.injector.cniEnabled", Bool, "false", NOWHERE),
    key("runtime.kubernetes.injector.virtualProbesEnabled", Bool, "false", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_VIRTUAL_PROBES_ENABLED"),
    key("runtime.kubernetes.injector.virtualProbesPort", Uint32, "9000", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_VIRTUAL_PROBES_PORT"),
    key("runtime.kubernetes.injector.applicationProbeProxyPort", Uint32, "9001", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_APPLICATION_PROBE_PROXY_PORT"),
    key("runtime.kubernetes.injector.sidecarTraffic.excludeInboundPorts", Uints, "", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS"),
    key("runtime.kubernetes.injector.sidecarTraffic.excludeOutboundPorts", Uints, "", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_PORTS"),
    key("runtime.kubernetes.injector.sidecarTraffic.excludeInboundIPs", Texts, "", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_INBOUND_IPS"),
    key("runtime.kubernetes.injector.sidecarTraffic.excludeOutboundIPs", Texts, "", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_IPS"),
    key(
        "runtime.kubernetes.injector.exceptions.labels",
        Map,
        "openshift.io/build.name:*,openshift.io/deployer-pod-for.name:*",
        NOWHERE,
    )
    .env("KUMA_RUNTIME_KUBERNETES_EXCEPTIONS_LABELS"),
    key("runtime.kubernetes.injector.caCertFile", Text, "", NOWHERE),
    key("runtime.kubernetes.injector.builtinDNS.enabled", Bool, "true", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.builtinDNS.port", Uint32, "15053", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.builtinDNS.logging", Bool, "false", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.builtinDNS.experimentalProxy", Bool, "true", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.ebpf.enabled", Bool, "false", NOWHERE),
    key("runtime.kubernetes.injector.ebpf.instanceIPEnvVarName", Text, "INSTANCE_IP", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.ebpf.bpffsPath", Text, "/sys/fs/bpf", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.ebpf.cgroupPath", Text, "/sys/fs/cgroup", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.ebpf.tcAttachIface", Text, "", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.ebpf.programsSourcePath", Text, "/tmp/kuma-ebpf", NOWHERE).omit_empty(),
    key("runtime.kubernetes.injector.ignoredServiceSelectorLabels", Texts, "", NOWHERE),
    key(
        "runtime.kubernetes.injector.nodeLabelsToCopy",
        Texts,
        "topology.kubernetes.io/zone,topology.kubernetes.io/region,kubernetes.io/hostname",
        NOWHERE,
    ),
    key("runtime.kubernetes.injector.transparentProxyConfigMap", Text, "", NOWHERE)
        .env("KUMA_RUNTIME_KUBERNETES_INJECTOR_TRANSPARENT_PROXY_CONFIGMAP_NAME"),
    key("runtime.kubernetes.injector.unifiedResourceNamingEnabled", Bool, "false", NOWHERE),
    key("runtime.kubernetes.injector.spire.enabled", Bool, "false", NOWHERE),
    key("runtime.kubernetes.injector.spire.mountPath", Text, "/run/spire/sockets", NOWHERE),
    key("runtime.kubernetes.injector.spire.socketFileName", Text, "socket", NOWHERE),
    key("runtime.kubernetes.marshalingCacheExpirationTime", Duration, "5m0s", NOWHERE),
    key("runtime.kubernetes.allowedUsers", Texts, "", NOWHERE).omit_empty(),
    key("runtime.kubernetes.controlPlaneServiceName", Text, "kuma-control-plane", NOWHERE).omit_empty(),
    key("runtime.kubernetes.nodeTaintController.enabled", Bool, "false", NOWHERE),
    key("runtime.kubernetes.nodeTaintController.cniApp", Text, "", NOWHERE),
    key("runtime.kubernetes.nodeTaintController.cniNamespace", Text, "kube-system", NOWHERE),
    key("runtime.kubernetes.controllersConcurrency.podController", Int, "10", NOWHERE),
    key("runtime.kubernetes.clientConfig.qps", Int, "100", NOWHERE),
    key("runtime.kubernetes.clientConfig.burstQps", Int, "100", NOWHERE),
    key("runtime.kubernetes.leaderElection.leaseDuration", Duration, "15s", NOWHERE),
    key("runtime.kubernetes.leaderElection.renewDeadline", Duration, "10s", NOWHERE),
    key("runtime.kubernetes.skipMeshOwnerReference", Bool, "false", NOWHERE),
    key("runtime.kubernetes.supportGatewaySecretsInAllNamespaces", Bool, "false", NOWHERE),
    key("runtime.kubernetes.workloadLabels", Texts, "", NOWHERE),
    key("runtime.kubernetes.disallowMultipleMeshesPerNamespace", Bool, "false", NOWHERE),
];
