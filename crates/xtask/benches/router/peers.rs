//! The programs that are measured: where they come from, what they are told, what they use.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ends::{Backends, NAMES, until_routed};
use crate::envoys;

/// The version that is measured: the newest.
const ENVOY: &str = envoys::VERSIONS[1];

/// Debian packages of the peers; they are taken apart, not installed.
const DEBIAN: &[&str] = &[
    "haproxy",
    "libopentracing-c-wrapper0",
    "libopentracing1",
    "liblua5.3-0",
    "nginx",
    "nginx-core",
    "libnginx-mod-stream",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Router,
    Envoy,
    Haproxy,
    Nginx,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Router, Self::Envoy, Self::Haproxy, Self::Nginx];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// Names and the weighted endpoints behind each.
pub struct Plan(Vec<(String, Vec<(SocketAddr, u32)>)>);

impl Plan {
    /// Three names, a backend each.
    pub fn three(backends: &Backends) -> Self {
        let one = |(name, address): (&&str, SocketAddr)| ((*name).to_owned(), vec![(address, 1)]);
        Self(NAMES.iter().zip(backends.addresses()).map(one).collect())
    }

    /// One name, all backends.
    pub fn weighted(backends: &Backends, weights: &[u32]) -> Self {
        let endpoints = backends.addresses().into_iter().zip(weights.iter().copied()).collect();
        Self(vec![("weighted{mesh=default}".to_owned(), endpoints)])
    }

    /// Many names, each with two endpoints of its own.
    pub fn many(backends: &Backends, count: usize) -> Self {
        let to = backends.addresses();
        let one = |n: usize| (format!("service-{n}{{mesh=default}}"), vec![(to[n % 3], 1), (to[(n + 1) % 3], 2)]);
        Self((0..count).map(one).collect())
    }

    pub fn last_name(&self) -> String {
        self.0.last().map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

/// What a peer is told.
pub struct Files {
    folder: TempDir,
    listen: SocketAddr,
}

impl Files {
    pub fn write(kind: Kind, plan: &Plan) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = folder.path();
        match kind {
            Kind::Router | Kind::Envoy => fs::write(path.join("envoy.json"), envoy(plan, listen).to_string())?,
            Kind::Haproxy => haproxy(plan, listen, path)?,
            Kind::Nginx => fs::write(path.join("nginx.conf"), nginx(plan, listen, path)?)?,
        }
        Ok(Self { folder, listen })
    }
}

/// A running program.
pub struct Peer {
    pub kind: Kind,
    pub address: SocketAddr,
    process: Child,
    _files: Files,
}

impl Peer {
    /// Starts it and waits until it routes.
    pub fn start(kind: Kind, plan: &Plan) -> Result<Self> {
        let peer = Self::run(kind, Files::write(kind, plan)?)?;
        until_routed(peer.address, &plan.last_name()).with_context(|| format!("{} does not route", kind.name()))?;
        Ok(peer)
    }

    /// Starts it.
    pub fn run(kind: Kind, files: Files) -> Result<Self> {
        let (folder, peers) = (files.folder.path(), folder());
        let mut command = match kind {
            Kind::Router => {
                let mut command = Command::new(target().join("release/kuma-ingress"));
                command.args(["run", "--concurrency", "2", "--log-level", "warn", "--diagnostics", "127.0.0.1:0"]);
                command.arg("--bootstrap").arg(folder.join("envoy.json"));
                command
            }
            Kind::Envoy => {
                let mut command = Command::new(envoys::fetch(ENVOY)?);
                command.args(["--concurrency", "2", "-l", "error", "--disable-hot-restart"]);
                command.arg("-c").arg(folder.join("envoy.json"));
                command
            }
            Kind::Haproxy => {
                let mut command = Command::new(peers.join("usr/sbin/haproxy"));
                command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
                command
            }
            Kind::Nginx => {
                let mut command = Command::new(peers.join("usr/sbin/nginx"));
                command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "error.log"]);
                command
            }
        };
        command.env("LD_LIBRARY_PATH", peers.join("usr/lib/x86_64-linux-gnu")).process_group(0);
        let log = fs::File::create(folder.join("log"))?;
        command.stdout(Stdio::null()).stderr(log).current_dir(folder);
        let process = command.spawn().with_context(|| format!("cannot start {}", kind.name()))?;
        Ok(Self { kind, address: files.listen, process, _files: files })
    }

    /// It and its workers.
    fn processes(&self) -> Vec<u32> {
        let own = self.process.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|id| id.parse().ok())).collect()
    }

    /// Run time of all its threads so far, to the nanosecond.
    pub fn processor_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for process in self.processes() {
            for task in fs::read_dir(format!("/proc/{process}/task"))? {
                let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
                nanos += stat.split_whitespace().next().context("an empty schedstat")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory that is its own, shared pages in part, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let mut kib = 0;
        for process in self.processes() {
            let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
            let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
            kib += pss.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(kib << 10)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Workers of a master end with it, or lose it and end with the group.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn folder() -> PathBuf {
    target().join("peers")
}

/// Builds our program and fetches the others that are missing.
pub fn fetch(kinds: &[Kind]) -> Result<()> {
    let status = Command::new(env!("CARGO")).args(["build", "--release", "--package", "kuma-ingress"]).status()?;
    ensure!(status.success(), "kuma-ingress does not build");
    let folder = folder();
    fs::create_dir_all(&folder)?;
    let run = |program: &str, arguments: &[&str]| -> Result<()> {
        let status = Command::new(program).args(arguments).current_dir(&folder).stdout(Stdio::null()).status();
        ensure!(status.with_context(|| format!("cannot start {program}"))?.success(), "{program} {arguments:?} failed");
        Ok(())
    };
    if kinds.contains(&Kind::Envoy) {
        envoys::fetch(ENVOY)?;
    }
    let debian = [(Kind::Haproxy, "usr/sbin/haproxy"), (Kind::Nginx, "usr/sbin/nginx")];
    if debian.iter().any(|(kind, path)| kinds.contains(kind) && !folder.join(path).exists()) {
        run("apt-get", &[&["download"], DEBIAN].concat())?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                run("dpkg", &["-x", &path.to_string_lossy(), "."])?;
            }
        }
    }
    Ok(())
}

/// As Kuma builds a zone ingress; limits of connections raised.
fn envoy(plan: &Plan, listen: SocketAddr) -> Value {
    let address =
        |at: &SocketAddr| json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let tcp_proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    let chain = |(name, _): &(String, Vec<(SocketAddr, u32)>)| {
        let config = json!({"@type": tcp_proxy, "stat_prefix": name, "cluster": name});
        json!({
            "filter_chain_match": {"transport_protocol": "tls", "server_names": [name]},
            "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": config}],
        })
    };
    let cluster = |(name, endpoints): &(String, Vec<(SocketAddr, u32)>)| {
        let endpoint = |(at, weight): &(SocketAddr, u32)| json!({"endpoint": {"address": address(at)}, "load_balancing_weight": weight});
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [{"max_connections": 1_000_000, "max_pending_requests": 1_000_000}]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        })
    };
    json!({"static_resources": {
        "listeners": [{
            "name": "inbound", "address": address(&listen), "enable_reuse_port": true,
            "listener_filters": [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {"@type": inspector}}],
            "filter_chains": plan.0.iter().map(chain).collect::<Vec<_>>(),
        }],
        "clusters": plan.0.iter().map(cluster).collect::<Vec<_>>(),
    }})
}

fn haproxy(plan: &Plan, listen: SocketAddr, folder: &Path) -> Result<()> {
    let (mut map, mut backends) = (String::new(), String::new());
    for (n, (name, endpoints)) in plan.0.iter().enumerate() {
        writeln!(map, "{} b{n}", name.to_ascii_lowercase())?;
        writeln!(backends, "backend b{n}\n  balance roundrobin")?;
        for (at, (address, weight)) in endpoints.iter().enumerate() {
            writeln!(backends, "  server s{at} {address} weight {weight}")?;
        }
    }
    let map_file = folder.join("names.map");
    fs::write(&map_file, map)?;
    let head = format!(
        "global\n  nbthread 2\n  maxconn 7500\n  tune.pipesize 1048576\ndefaults\n  mode tcp\n  option splice-auto\n  timeout client 1h\n  \
         timeout server 1h\n  timeout connect 5s\nfrontend f\n  bind {listen}\n  tcp-request inspect-delay 15s\n  \
         tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  use_backend %[req.ssl_sni,lower,map_str({})]\n",
        map_file.display()
    );
    Ok(fs::write(folder.join("haproxy.cfg"), head + &backends)?)
}

fn nginx(plan: &Plan, listen: SocketAddr, folder: &Path) -> Result<String> {
    let (mut map, mut upstreams) = (String::new(), String::new());
    for (n, (name, endpoints)) in plan.0.iter().enumerate() {
        writeln!(map, "    \"{name}\" u{n};")?;
        writeln!(upstreams, "  upstream u{n} {{")?;
        if endpoints.len() > 2 {
            writeln!(upstreams, "    zone u{n} 64k;")?;
        }
        for (address, weight) in endpoints {
            writeln!(upstreams, "    server {address} weight={weight};")?;
        }
        writeln!(upstreams, "  }}")?;
    }
    let modules = self::folder().canonicalize()?.join("usr/lib/nginx/modules/ngx_stream_module.so");
    Ok(format!(
        "load_module {};\nuser root;\ndaemon off;\nworker_processes 2;\nworker_rlimit_nofile 60000;\npid {}/pid;\nerror_log {}/error.log;\n\
         events {{ worker_connections 25000; multi_accept on; }}\nstream {{\n  map_hash_bucket_size 256;\n  \
         map_hash_max_size 65536;\n  map $ssl_preread_server_name $to {{\n{map}  }}\n{upstreams}  server {{\n    \
         listen {listen} reuseport;\n    ssl_preread on;\n    proxy_timeout 1h;\n    proxy_pass $to;\n  }}\n}}\n",
        modules.display(),
        folder.display(),
        folder.display(),
    ))
}
