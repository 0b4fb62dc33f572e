//! Flags and variables of `kuma-dp run`, as far as a proxy at the edge of a zone has a use for them (zone-dataplane 1.1).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use identity::bootstrap::Patience;
use model::duration::GoDuration;
use runtime::Fatal;

use crate::program::FromControlPlane;
use crate::proxy::{Proxy, ProxyType, Said};

/// Largest file that is read here.
const LARGEST: u64 = 1 << 20;

#[derive(Args, Debug)]
#[command(next_help_heading = "With a control plane")]
pub(super) struct Flags {
    /// Where the zone's control plane answers proxies.
    #[arg(long, value_name = "URL", env = "KUMA_CONTROL_PLANE_URL", default_value = "https://localhost:5678")]
    cp_address: String,
    /// Authorities of the control plane's certificate; those of this machine unless given.
    #[arg(long, value_name = "FILE", env = "KUMA_CONTROL_PLANE_CA_CERT_FILE")]
    ca_cert_file: Option<PathBuf>,
    #[arg(long, hide = true, env = "KUMA_CONTROL_PLANE_CA_CERT", hide_env_values = true)]
    ca_cert: Option<String>,
    /// Do not verify the control plane when it is asked for a bootstrap.
    #[arg(long, env = "KUMA_CONTROL_PLANE_TLS_SKIP_VERIFY", value_parser = clap::builder::BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    skip_verify: bool,
    #[arg(long, hide = true, env = "KUMA_CONTROL_PLANE_RETRY_BACKOFF", value_parser = go_duration, default_value = "3s")]
    retry_backoff: Duration,
    #[arg(long, hide = true, env = "KUMA_CONTROL_PLANE_RETRY_MAX_DURATION", value_parser = go_duration,
        default_value = "5m")]
    retry_max_duration: Duration,
    /// Name of the proxy, unless a document has it.
    #[arg(long, value_name = "NAME", env = "KUMA_DATAPLANE_NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// Address where it listens; with it the proxy registers itself.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Port where it listens.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address where other zones reach it.
    #[arg(long, value_name = "ADDRESS")]
    advertised_address: Option<String>,
    /// Port where other zones reach it.
    #[arg(long, value_name = "PORT")]
    advertised_port: Option<u16>,
    /// Port of its own interface on the loopback address.
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// The proxy's resource, YAML or JSON, a template.
    #[arg(long, value_name = "TEXT", env = "KUMA_DATAPLANE_RUNTIME_RESOURCE", conflicts_with = "dataplane_file")]
    dataplane: Option<String>,
    /// The same from a file; `-` is standard input.
    #[arg(long, short = 'd', value_name = "FILE", env = "KUMA_DATAPLANE_RUNTIME_RESOURCE_PATH")]
    dataplane_file: Option<PathBuf>,
    /// A value for `{{ key }}` in the template.
    #[arg(long, short = 'v', value_name = "KEY=VALUE", value_parser = variable, value_delimiter = ',')]
    dataplane_var: Vec<(String, String)>,
    /// A zone token.
    #[arg(long, value_name = "TOKEN", env = "KUMA_DATAPLANE_RUNTIME_TOKEN", hide_env_values = true)]
    dataplane_token: Option<String>,
    /// File with a zone token; it is read again for every connection.
    #[arg(long, value_name = "FILE", env = "KUMA_DATAPLANE_RUNTIME_TOKEN_PATH")]
    dataplane_token_file: Option<PathBuf>,
    /// Folder of the last good configuration, with which it starts when the control plane does not answer; ~/.kuma
    /// unless given.
    #[arg(long, value_name = "FOLDER", env = "KUMA_DATAPLANE_RUNTIME_WORK_DIR", alias = "config-dir")]
    work_dir: Option<PathBuf>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_PROXY_TYPE")]
    proxy_type: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_DYNAMIC_SYSTEM_CA_PATH")]
    system_ca_path: Option<PathBuf>,
    #[command(flatten)]
    ignored: Ignored,
}

/// Of `kuma-dp`, without a meaning where no Envoy is started.
#[derive(Args, Debug)]
struct Ignored {
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_BINARY_PATH")]
    binary_path: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_ENVOY_LOG_LEVEL")]
    envoy_log_level: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DATAPLANE_RUNTIME_ENVOY_COMPONENT_LOG_LEVEL")]
    envoy_component_log_level: Option<String>,
    #[arg(long, hide = true, env = "KUMA_DNS_ENABLED", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    dns_enabled: Option<String>,
}

impl Ignored {
    fn tell(&self) {
        let given = [
            ("--binary-path", &self.binary_path),
            ("--envoy-log-level", &self.envoy_log_level),
            ("--envoy-component-log-level", &self.envoy_component_log_level),
            ("--dns-enabled", &self.dns_enabled),
        ];
        for (flag, _) in given.into_iter().filter(|(_, value)| value.is_some()) {
            tracing::info!(flag, "has no effect: this proxy is no Envoy");
        }
    }
}

impl Flags {
    /// What the flags say.
    ///
    /// # Errors
    /// They do not go together, or a file cannot be read.
    pub fn read(self, proxy_type: ProxyType) -> Result<FromControlPlane, Fatal> {
        if let Some(given) = self.proxy_type.as_ref().filter(|given| **given != proxy_type.word()) {
            let remedy = "kuma-ingress and kuma-egress are one type of proxy each";
            return Err(Fatal::new(format!("--proxy-type {given} is not what this program is")).remedy(remedy));
        }
        self.ignored.tell();
        let document = match (self.dataplane, self.dataplane_file) {
            (Some(text), _) => Some(("--dataplane".to_owned(), text.into_bytes())),
            (None, Some(file)) => Some((file.display().to_string(), read(&file)?)),
            (None, None) => None,
        };
        let said = Said {
            name: self.name,
            document,
            variables: self.dataplane_var.into_iter().collect::<BTreeMap<_, _>>(),
            address: self.address,
            port: self.port,
            advertised_address: self.advertised_address,
            advertised_port: self.advertised_port,
            admin_port: self.admin_port,
        };
        let proxy = Proxy::new(proxy_type, &said).map_err(Fatal::new)?;
        let ca = match (self.ca_cert.filter(|pem| !pem.is_empty()), &self.ca_cert_file) {
            (Some(pem), _) => Some(pem.into_bytes()),
            (None, Some(file)) => Some(read(file)?),
            (None, None) => None,
        };
        let mut request = proxy.request();
        request.ca_cert = ca.as_ref().map(|pem| String::from_utf8_lossy(pem).into_owned()).unwrap_or_default();
        request.dataplane_token.0 = self.dataplane_token.unwrap_or_default().trim().to_owned();
        request.dataplane_token_path =
            self.dataplane_token_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        request.system_ca_path =
            self.system_ca_path.or_else(system_ca).map(|path| path.display().to_string()).unwrap_or_default();
        let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from).join(".kuma");
        Ok(FromControlPlane {
            address: self.cp_address,
            ca,
            skip_verify: self.skip_verify,
            // A token that was given in words goes before one in a file, as in kuma-dp.
            token_file: self.dataplane_token_file.filter(|_| request.dataplane_token.is_empty()),
            patience: Patience { pause: self.retry_backoff, limit: Some(self.retry_max_duration) },
            folder: self.work_dir.unwrap_or_else(home),
            request,
        })
    }
}

/// Authorities of this machine, where the usual systems keep them.
fn system_ca() -> Option<PathBuf> {
    let usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    usual.iter().map(PathBuf::from).find(|path| path.exists())
}

fn read(file: &Path) -> Result<Vec<u8>, Fatal> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LARGEST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes))
    };
    read.map_err(|error| Fatal::new(format!("cannot read {file:?}")).caused_by(error))?;
    Ok(bytes)
}

/// Go's form, `30s`; a bare number is seconds.
pub(super) fn go_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let given: GoDuration = text.parse().map_err(|error: model::duration::DurationError| error.to_string())?;
    given.to_std().ok_or_else(|| "it must not be negative".to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form key=value")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
