//! What the flags come to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use identity::bootstrap::Patience;
use kds_proto::bootstrap::{KumaDpVersion, MetricsResources, Request, Resources, SpireResources, Token, Version};
use model::KUMA_VERSION;
use runtime::{Fatal, drain, host};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{ProxyType, Run};
use crate::envoy;
use crate::resource::{self, Resource};

/// Where Linux distributions keep their authorities.
const SYSTEM_CAS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// For Envoy to end when it is told to.
pub(crate) const ENVOY_ENDS: Duration = Duration::from_secs(5);

/// How a `kuma-dp` runs.
#[derive(Debug)]
pub struct Config {
    /// What the control plane is asked; the version of Envoy is missing.
    pub request: Request,
    /// What stands beside Envoy.
    pub proxy_type: ProxyType,
    /// Which control plane, and for how long it is asked.
    pub control_plane: ControlPlane,
    /// Folder of the bootstrap and the sockets.
    pub folder: Folder,
    /// How Envoy is started.
    pub envoy: envoy::Settings,
    /// Where names are answered.
    pub dns: Option<SocketAddr>,
    /// Where it is told whether the proxy is ready; a socket in the folder unless there is a port.
    pub readiness: Option<u16>,
    /// Between two looks at what Envoy has for us.
    pub refresh: Duration,
}

/// A control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// Its address, `https://localhost:5678`.
    pub address: String,
    /// Whether it is verified.
    pub verified: bool,
    /// For how long it is asked.
    pub patience: Patience,
}

/// A folder, which goes with the program unless it was given.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _temporary: Option<TempDir>,
}

impl Folder {
    fn new(given: Option<PathBuf>) -> Result<Self, Fatal> {
        let Some(path) = given else {
            let made = TempDir::with_prefix("kuma-dp-");
            let made = made.map_err(|error| Fatal::new("cannot make a temporary folder").caused_by(error))?;
            return Ok(Self { path: made.path().to_owned(), _temporary: Some(made) });
        };
        runtime::exit::writable_folder(&path, "--work-dir")?;
        // Envoy is started elsewhere, perhaps, and told the path.
        let path = std::path::absolute(&path).unwrap_or(path);
        Ok(Self { path, _temporary: None })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How long the steps of the end may take.
pub fn drain_limits(drain: Duration) -> drain::Limits {
    let spare = Duration::from_secs(5);
    drain::Limits { unready: Duration::ZERO, listeners: drain + spare, streams: ENVOY_ENDS + spare }
}

impl Config {
    /// From the flags; files are read, the folder is made.
    ///
    /// # Errors
    /// Flags that exclude each other or lack something, a file that cannot be used.
    pub fn read(run: Run, log_level: &str) -> Result<Self, Fatal> {
        let resource = supplied(&run)?;
        let (mesh, name) = identity(&run, resource.as_ref())?;
        let token = token(&run)?;
        let ca_cert = match (&run.ca_cert, &run.ca_cert_file) {
            (Some(text), _) => text.clone(),
            (None, Some(file)) => resource::read(file, "authorities of the control plane")?,
            (None, None) => String::new(),
        };
        let transparent_proxy = transparent_proxy(&run)?;
        let text = |path: &Option<String>| path.clone().unwrap_or_default();
        let folder = Folder::new(run.work_dir.clone().or(run.old_config_dir.clone()).or(run.old_socket_dir.clone()))?;
        let answers = run.dns_enabled && run.proxy_type == ProxyType::Dataplane;
        let port = if run.dns_proxy_port != 0 { run.dns_proxy_port } else { run.dns_coredns_port };
        let request = Request {
            mesh,
            name,
            proxy_type: run.proxy_type.words().0.to_owned(),
            dataplane_token: Token(token),
            dataplane_token_path: run.dataplane_token_file.as_deref().map(shown).unwrap_or_default(),
            dataplane_resource: resource.map(|resource| resource.document).unwrap_or_default(),
            version: Version { kuma_dp: version(), ..Version::default() },
            ca_cert,
            dns_port: run.dns_envoy_port,
            readiness_port: run.readiness_port.into(),
            app_probe_proxy_enabled: run.application_probe_proxy_port > 0,
            operating_system: std::env::consts::OS.to_owned(),
            features: features(&run, answers, transparent_proxy.is_some()),
            resources: Resources { max_heap_size_bytes: memory(run.max_memory_bytes) },
            workdir: shown(folder.path()),
            metrics_resources: MetricsResources {
                cert_path: text(&run.metrics_cert_path),
                key_path: text(&run.metrics_key_path),
            },
            system_ca_path: system_ca(run.system_ca_path.as_deref()),
            transparent_proxy,
            ipv6_enabled: run.ipv6 && host::addresses().iter().any(IpAddr::is_ipv6),
            spire_resources: SpireResources { socket_path: text(&run.spire_socket_path) },
            ..Request::default()
        };
        Ok(Self {
            request,
            proxy_type: run.proxy_type,
            control_plane: ControlPlane {
                address: run.cp_address,
                verified: !run.skip_verify,
                patience: Patience { pause: run.retry_backoff, limit: Some(run.retry_max_duration) },
            },
            folder,
            envoy: envoy::Settings {
                program: run.binary_path,
                concurrency: run.concurrency,
                log_level: run.envoy_log_level.unwrap_or_else(|| envoy::level(log_level)),
                component_log_level: run.envoy_component_log_level,
                drain_time: run.drain_time,
            },
            dns: answers.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            readiness: run.readiness_unix_socket_disabled.then_some(run.readiness_port),
            refresh: run.refresh_interval,
        })
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn supplied(run: &Run) -> Result<Option<Resource>, Fatal> {
    let template = match (&run.dataplane, &run.dataplane_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => resource::read(file, "resource of the proxy")?,
        (None, None) => return Ok(None),
    };
    Resource::parse(&template, &run.dataplane_var, run.proxy_type).map(Some)
}

/// Mesh and name, from the resource or from the flags.
fn identity(run: &Run, resource: Option<&Resource>) -> Result<(String, String), Fatal> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (mesh, name) = (given(&run.mesh), given(&run.name));
    if let Some(resource) = resource {
        if mesh.is_some() || name.is_some() {
            let remedy = "leave them out: both are taken from the resource";
            return Err(Fatal::new("--name and --mesh cannot stand beside a resource").remedy(remedy));
        }
        return Ok((resource.mesh.clone(), resource.name.clone()));
    }
    let pod = || Some(format!("{}.{}", std::env::var("POD_NAME").ok()?, std::env::var("POD_NAMESPACE").ok()?));
    let remedy = "give --dataplane-file, or --name and --mesh of a resource that the control plane has";
    let name = name.or_else(pod).ok_or_else(|| Fatal::new("the proxy has no name").remedy(remedy))?;
    match (run.proxy_type, mesh) {
        (ProxyType::Dataplane, None) => Err(Fatal::new("the proxy has no mesh").remedy(remedy)),
        (ProxyType::Dataplane, Some(mesh)) => Ok((mesh, name)),
        (_, None) => Ok((String::new(), name)),
        (_, Some(_)) => Err(Fatal::new("a proxy at the edge of a zone is in no mesh").remedy("leave --mesh out")),
    }
}

fn token(run: &Run) -> Result<String, Fatal> {
    let token = match (&run.dataplane_token, &run.dataplane_token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => resource::read(file, "token of the proxy")?,
        (None, None) => String::new(),
    };
    Ok(token.trim().to_owned())
}

fn version() -> KumaDpVersion {
    KumaDpVersion { version: KUMA_VERSION.to_owned(), git_tag: format!("v{KUMA_VERSION}"), ..KumaDpVersion::default() }
}

fn features(run: &Run, answers: bool, redirected: bool) -> Vec<String> {
    let conditions = [
        ("tcp-accesslog-via-named-pipe", true),
        ("embedded-dns", answers),
        ("transparent-proxy-in-dataplane-metadata", redirected),
        ("bind-outbounds", run.bind_outbounds),
        ("delta-grpc", run.xds_variant == "DELTA_GRPC"),
        ("unified-resource-naming", run.unified_naming),
        ("spire", run.spire),
        ("readiness-unix-socket", !run.readiness_unix_socket_disabled),
        ("strict-inbound-ports", run.strict_inbound_ports),
        ("reuse-port", run.reuse_port),
    ];
    conditions.iter().filter(|(_, holds)| *holds).map(|(word, _)| format!("feature-{word}")).collect()
}

/// What redirects connections to Envoy, as the control plane wants to know it.
fn transparent_proxy(run: &Run) -> Result<Option<Value>, Fatal> {
    if !run.transparent_proxy && run.transparent_proxy_config.is_empty() {
        return Ok(None);
    }
    let way = |port: u32| json!({"enabled": true, "port": port});
    let mut redirect = json!({
        "ipFamilyMode": "dualstack",
        "redirect": {"inbound": way(15006), "outbound": way(15001), "dns": way(run.dns_envoy_port)},
    });
    for path in &run.transparent_proxy_config {
        let text = resource::read(path, "transparent proxy configuration")?;
        let given: Value = serde_yaml::from_str(&text).map_err(|error| {
            Fatal::new(format!("cannot use the transparent proxy configuration {path:?}")).caused_by(error)
        })?;
        overlay(&mut redirect, &given);
    }
    redirect["redirect"]["dns"] = json!({"enabled": run.dns_enabled, "port": run.dns_envoy_port});
    Ok(Some(redirect))
}

/// Takes from a document what has a place already: it says much more that only the one who redirects wants to know.
fn overlay(known: &mut Value, given: &Value) {
    match (known, given) {
        (Value::Object(known), Value::Object(given)) => {
            for (name, value) in known {
                if let Some(given) = given.get(name) {
                    overlay(value, given);
                }
            }
        }
        (known, given) if !given.is_object() && !given.is_null() => *known = given.clone(),
        _ => {}
    }
}

fn system_ca(given: Option<&Path>) -> String {
    let known = || SYSTEM_CAS.iter().map(Path::new).find(|path| path.is_file());
    given.or_else(known).map(shown).unwrap_or_default()
}

/// What the control group lets this program use, in bytes; 0: not known.
fn memory(given: u64) -> u64 {
    let limit = || {
        let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let read = |file: &&str| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        // The older interface has a number near the largest for no limit.
        files.iter().find_map(read).filter(|bytes| *bytes < 1 << 60)
    };
    if given > 0 { given } else { limit().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::parse;

    fn read(arguments: &[&str]) -> Result<Config, String> {
        Config::read(parse(arguments).unwrap(), "info").map_err(|error| error.to_string())
    }

    /// The recorded request, as far as it does not depend on the machine.
    #[test]
    fn the_request_is_the_recorded_one() {
        let resource = "type: Dataplane\nmesh: default\nname: web\nnetworking: {address: 127.0.0.1}";
        let config = read(&["--dataplane", resource, "--dns-enabled=false", "--dataplane-token", " t\n"]).unwrap();
        let request = config.request;
        assert_eq!((request.mesh.as_str(), request.name.as_str()), ("default", "web"));
        assert_eq!((request.dns_port, request.readiness_port), (15054, 9902));
        assert_eq!(request.dataplane_token.0, "t");
        let recorded = ["tcp-accesslog-via-named-pipe", "readiness-unix-socket", "strict-inbound-ports", "reuse-port"];
        assert_eq!(request.features, recorded.map(|word| format!("feature-{word}")));
        assert!(config.dns.is_none() && request.transparent_proxy.is_none());
    }

    #[test]
    fn a_proxy_is_named_once() {
        let resource = "type: Dataplane\nmesh: default\nname: web";
        assert!(read(&["--dataplane", resource, "--name", "web"]).unwrap_err().starts_with("--name and --mesh cannot"));
        assert!(read(&[]).unwrap_err().starts_with("the proxy has no name"));
        assert!(read(&["--name", "web"]).unwrap_err().starts_with("the proxy has no mesh"));
        let edge = read(&["--name", "zi", "--proxy-type", "ingress"]).unwrap();
        assert_eq!((edge.request.mesh.as_str(), edge.request.name.as_str()), ("", "zi"));
        assert!(edge.dns.is_none(), "nobody beside it asks for names");
    }

    #[test]
    fn files_of_the_redirection_add_up() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "ipFamilyMode: ipv4\nredirect:\n  inbound:\n    port: 1\nkumaDPUser: x").unwrap();
        let path = file.path().to_string_lossy().into_owned();
        let config = read(&["--name", "a", "--mesh", "m", "--transparent-proxy-config", &path]).unwrap();
        let way = |enabled: bool, port: u32| json!({"enabled": enabled, "port": port});
        let redirect = json!({"inbound": way(true, 1), "outbound": way(true, 15001), "dns": way(true, 15054)});
        assert_eq!(config.request.transparent_proxy, Some(json!({"ipFamilyMode": "ipv4", "redirect": redirect})));
        assert_eq!(config.dns, Some("0.0.0.0:15053".parse().unwrap()));
        assert!(config.request.features.contains(&"feature-embedded-dns".to_owned()));
    }
}
