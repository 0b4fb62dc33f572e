//! The command line, as Kuma's `kuma-dp` has it (zone-dataplane 1.1). A flag wins over its variable.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use model::duration::GoDuration;
use runtime::telemetry::{Options, Telemetry};
use runtime::{Clock, Exit, Fatal, Life, exit, host, signals};

use crate::config::{Config, drain_limits};
use crate::{Running, VERSION};

/// Starts an Envoy beside a workload, as the control plane of its zone says, and looks after it.
#[derive(Debug, Parser)]
#[command(name = "kuma-dp", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What is logged: off, error, warn, info, debug, trace.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// text or json.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start Envoy and look after it until asked to stop.
    Run(Box<Run>),
    /// Print the version.
    Version,
}

/// What stands beside an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyType {
    /// A workload.
    Dataplane,
    /// Nothing: it is where traffic comes into the zone.
    Ingress,
    /// Nothing: it is where traffic leaves the zone.
    Egress,
}

impl ProxyType {
    /// The word of the protocol, and the kind of the resource.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Dataplane => ("dataplane", "Dataplane"),
            Self::Ingress => ("ingress", "ZoneIngress"),
            Self::Egress => ("egress", "ZoneEgress"),
        }
    }
}

/// `true`, `false`, and what else Go takes for them; a flag alone is true.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let nanos = text.parse::<GoDuration>().map_err(|error| error.to_string())?.nanos();
    match u64::try_from(nanos) {
        Ok(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos)),
        _ => Err("must be more than nothing, such as 30s".to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

macro_rules! flags {
    ($($(#[$meta:meta])* $name:ident: $type:ty),* $(,)?) => {
        /// Flags of `run`; what Kuma takes from a variable only is hidden from the help.
        #[derive(Args, Clone, Debug)]
        pub struct Run { $($(#[$meta])* pub(crate) $name: $type),* }
    };
}

flags! {
    /// Name of the proxy; not together with a resource.
    #[arg(long, env = "KUMA_DATAPLANE_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Mesh of the proxy; not together with a resource.
    #[arg(long, env = "KUMA_DATAPLANE_MESH", value_name = "NAME")]
    mesh: Option<String>,
    /// What stands beside Envoy.
    #[arg(long, env = "KUMA_DATAPLANE_PROXY_TYPE", value_enum, default_value = "dataplane")]
    proxy_type: ProxyType,
    /// The zone's control plane, its port for proxies.
    #[arg(long, env = "KUMA_CONTROL_PLANE_URL", value_name = "URL", default_value = "https://localhost:5678")]
    cp_address: String,
    /// Authorities by which the control plane is verified, PEM.
    #[arg(long, env = "KUMA_CONTROL_PLANE_CA_CERT_FILE", value_name = "FILE")]
    ca_cert_file: Option<PathBuf>,
    #[arg(long, hide = true, env = "KUMA_CONTROL_PLANE_CA_CERT")]
    ca_cert: Option<String>,
    /// Ask for the bootstrap without verifying the control plane. For trying things out.
    #[arg(long, env = "KUMA_CONTROL_PLANE_TLS_SKIP_VERIFY", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    skip_verify: bool,
    #[arg(long, hide = true, env = "KUMA_CONTROL_PLANE_RETRY_BACKOFF", value_parser = duration, default_value = "3s")]
    retry_backoff: Duration,
    #[arg(long, hide = true, env = "KUMA_CONTROL_PLANE_RETRY_MAX_DURATION", value_parser = duration,
        default_value = "5m")]
    retry_max_duration: Duration,
    /// File with the proxy's token.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH", value_name = "FILE")]
    dataplane_token_file: Option<PathBuf>,
    /// The proxy's token itself; a file keeps it out of the list of processes.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    dataplane_token: Option<String>,
    /// The proxy's resource, YAML or JSON, with {{ variables }}.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_RESOURCE", value_name = "TEXT")]
    dataplane: Option<String>,
    /// The same from a file; - is standard input.
    #[arg(long, short, env = "KUMA_DATAPLANE_RUNTIME_RESOURCE_PATH", value_name = "FILE")]
    dataplane_file: Option<PathBuf>,
    /// A variable of the resource.
    #[arg(long, short = 'v', value_parser = variable, value_name = "NAME=VALUE")]
    dataplane_var: Vec<(String, String)>,
    /// Envoy, by its path or its name on PATH.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_BINARY_PATH", value_name = "FILE", default_value = "envoy")]
    binary_path: PathBuf,
    /// Folder of the bootstrap and the sockets; a temporary one unless given.
    #[arg(long, alias = "config-dir", env = "KUMA_DATAPLANE_RUNTIME_WORK_DIR", value_name = "FOLDER")]
    work_dir: Option<PathBuf>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_CONFIG_DIR")]
    old_config_dir: Option<PathBuf>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_SOCKET_DIR")]
    old_socket_dir: Option<PathBuf>,
    /// Envoy's workers; 0: as many as it may use processors.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_CONCURRENCY", value_name = "NUMBER", default_value_t = 0)]
    concurrency: u32,
    /// How long connections may last after a SIGTERM.
    #[arg(long, env = "KUMA_DATAPLANE_DRAIN_TIME", value_name = "DURATION", value_parser = duration,
        default_value = "30s")]
    drain_time: Duration,
    /// What Envoy logs; as kuma-dp unless given.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_ENVOY_LOG_LEVEL", value_name = "LEVEL")]
    envoy_log_level: Option<String>,
    /// What parts of Envoy log: upstream:debug,connection:trace.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_ENVOY_COMPONENT_LOG_LEVEL", value_name = "LEVELS")]
    envoy_component_log_level: Option<String>,
    /// Certificate with which metrics are served.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_METRICS_CERT_PATH", value_name = "FILE")]
    metrics_cert_path: Option<String>,
    /// Its key.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_METRICS_KEY_PATH", value_name = "FILE")]
    metrics_key_path: Option<String>,
    /// Have Envoy listen on the addresses of services themselves.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_BIND_OUTBOUNDS", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    bind_outbounds: bool,
    /// Connections of the workload are redirected to Envoy.
    #[arg(long, env = "KUMA_DATAPLANE_RUNTIME_TRANSPARENT_PROXY", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true", value_name = "BOOL")]
    transparent_proxy: bool,
    /// How they are: files, separated by commas, - for standard input; a later one wins.
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    transparent_proxy_config: Vec<PathBuf>,
    /// Answer for names of the mesh.
    #[arg(long, env = "KUMA_DNS_ENABLED", value_parser = truth, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", value_name = "BOOL")]
    dns_enabled: bool,
    /// Where Envoy answers for names of the mesh; ours are answered by kuma-dp itself.
    #[arg(long, env = "KUMA_DNS_ENVOY_DNS_PORT", value_name = "PORT", default_value_t = 15054)]
    dns_envoy_port: u32,
    /// Port of the name server.
    #[arg(long, env = "KUMA_DNS_CORE_DNS_PORT", value_name = "PORT", default_value_t = 15053)]
    dns_coredns_port: u16,
    #[arg(long, hide = true, env = "KUMA_DNS_CORE_DNS_BINARY_PATH")]
    dns_coredns_path: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DNS_CORE_DNS_CONFIG_TEMPLATE_PATH")]
    dns_coredns_config_template_path: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DNS_CONFIG_DIR")]
    dns_server_config_dir: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DNS_PROMETHEUS_PORT")]
    dns_prometheus_port: Option<u32>,
    #[arg(long, hide = true, env = "KUMA_DNS_ENABLE_LOGGING", value_parser = truth, num_args = 0..=1,
        require_equals = true, default_value = "false", default_missing_value = "true")]
    dns_enable_logging: bool,
    #[arg(long, hide = true, env = "KUMA_DNS_PROXY_PORT", default_value_t = 0)]
    dns_proxy_port: u16,
    #[arg(long, hide = true, env = "KUMA_READINESS_PORT", default_value_t = 9902,
        value_parser = clap::value_parser!(u16).range(1..=65353))]
    readiness_port: u16,
    #[arg(long, hide = true, env = "KUMA_READINESS_UNIX_SOCKET_DISABLED", value_parser = truth,
        default_value = "false")]
    readiness_unix_socket_disabled: bool,
    #[arg(long, hide = true, env = "KUMA_APPLICATION_PROBE_PROXY_PORT", default_value_t = 0)]
    application_probe_proxy_port: u16,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_ENVOY_XDS_TRANSPORT_PROTOCOL_VARIANT",
        value_parser = ["", "GRPC", "DELTA_GRPC"], default_value = "")]
    xds_variant: String,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_UNIFIED_RESOURCE_NAMING_ENABLED", value_parser = truth,
        default_value = "false")]
    unified_naming: bool,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_IPV6_ENABLED", value_parser = truth,
        default_value = "true")]
    ipv6: bool,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_STRICT_INBOUND_PORTS_ENABLED", value_parser = truth,
        default_value = "true")]
    strict_inbound_ports: bool,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_REUSE_PORT_ENABLED", value_parser = truth,
        default_value = "true")]
    reuse_port: bool,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_SPIRE_SUPPORTED", value_parser = truth,
        default_value = "false")]
    spire: bool,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_SPIRE_SOCKET_PATH")]
    spire_socket_path: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_DYNAMIC_CONFIGURATION_REFRESH_INTERVAL",
        value_parser = duration, default_value = "1s")]
    refresh_interval: Duration,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_DYNAMIC_SYSTEM_CA_PATH")]
    system_ca_path: Option<PathBuf>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RESOURCES_MAX_MEMORY_BYTES", default_value_t = 0)]
    max_memory_bytes: u64,
}

/// The whole program; its exit codes stand in [`runtime::exit`].
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    exit::conclude(match cli.command {
        Command::Version => {
            println!("kuma-dp {VERSION}");
            Ok(Exit::Clean)
        }
        Command::Run(run) => look_after(*run, cli.log_level, &cli.log_format),
    })
}

fn look_after(run: Run, level: String, format: &str) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("cannot start")?.block_on(async {
        let telemetry = Telemetry::install(&Options {
            service: "kuma-dp",
            instance: host::name(),
            level: level.clone(),
            format: format.parse().map_err(Fatal::new)?,
            traces: None,
        })?;
        let config = Config::read(run, &level)?;
        let life = Life::new(Clock::system(), drain_limits(config.envoy.drain_time));
        let stop = life.stop().clone();
        signals::listen(stop.clone(), life.reload().clone()).context("cannot listen for signals")?;
        let started = tokio::select! {
            started = crate::run(config, life) => started?,
            () = stop.asked() => return Ok(Exit::Clean),
        };
        started.announce();
        let exit = Running::end(started).await;
        tracing::info!(?exit, "kuma-dp has ended");
        telemetry.flush().await;
        Ok(exit)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Flags as they are after parsing a command line.
    pub fn parse(arguments: &[&str]) -> Result<Run, clap::Error> {
        let all = ["kuma-dp", "run"].into_iter().chain(arguments.iter().copied());
        match Cli::try_parse_from(all)?.command {
            Command::Run(run) => Ok(*run),
            Command::Version => unreachable!(),
        }
    }

    #[test]
    fn the_recorded_command_lines_are_understood() {
        let run = parse(&[
            "--cp-address=https://localhost:22678",
            "--ca-cert-file=ca.crt",
            "--dataplane-file=resource.yaml",
            "--dataplane-token-file=token",
            "--proxy-type=ingress",
            "--binary-path=./envoy",
            "--work-dir=dir",
            "--concurrency=1",
            "--drain-time=1s",
            "--log-level=info",
            "--dns-enabled=false",
        ])
        .unwrap();
        assert_eq!((run.proxy_type, run.dns_enabled, run.drain_time.as_secs()), (ProxyType::Ingress, false, 1));
        assert!(run.strict_inbound_ports && run.reuse_port && !run.skip_verify);
        let run = parse(&["--skip-verify", "--transparent-proxy", "-v", "a=b=c", "-v", "d=e"]).unwrap();
        assert!(run.skip_verify && run.transparent_proxy && run.dns_enabled);
        assert_eq!(run.dataplane_var, [("a".into(), "b=c".into()), ("d".into(), "e".into())]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for arguments in [["--drain-time=0s"], ["--drain-time=5"], ["--dns-enabled=maybe"], ["--proxy-type=gateway"]] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
