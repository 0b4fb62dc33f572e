//! Every configuration that is made of the recorded scenarios is accepted by real Envoys.
//!
//! One Envoy of each version is given one configuration after the other over ADS, as proxies are. Listeners do not bind
//! and have a new name each time: addresses are those of the recordings, and Envoy does not let a listener change
//! everything.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests, their helpers included")]

#[path = "../../../crates/envoy/tests/golden/normal.rs"]
mod normal;
#[path = "../../../crates/envoy/tests/golden/scenario.rs"]
#[expect(dead_code, reason = "compares configurations with recordings, which is not done here")]
mod scenario;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use envoy::{Configuration, KeyPair, Type, Weights};
use kds_proto::Any;
use kds_proto::envoy::config::core::v3::DataSource;
use kds_proto::envoy::config::core::v3::data_source::Specifier;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::envoy::extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig, secret};
use prost::Message;
use scenario::Scenario;
use serde_json::json;
use server::{Resources, Server};

/// Where the recordings are.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/envoy/tests/recorded");
/// The recordings lack the certificates of this one: what MeshTrusts say.
const TRUST_BUNDLE: &str = "system_trust_bundle";
/// Until an Envoy has taken a configuration in, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_envoys_accept_what_is_made_of_every_scenario() {
    let pushes = pushes();
    let (oldest, newest) = tokio::join!(refused("1.36.", &pushes), refused("1.40.", &pushes));
    let refused: Vec<String> = [oldest, newest].concat();
    println!("{} configurations given to each", pushes.len());
    assert!(refused.is_empty(), "{} refused:\n{}", refused.len(), refused.join("\n"));
}

/// All different configurations, and whose they are.
fn pushes() -> Vec<(String, Resources)> {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pair = KeyPair { certificate: signed.cert.pem().into(), key: signed.signing_key.serialize_pem().into() };
    let mut seen = BTreeSet::new();
    let mut pushes = Vec::new();
    for scenario in Scenario::all() {
        for proxy in scenario.proxies() {
            let configuration = scenario.configuration(&proxy, Weights::Exact, &pair);
            if seen.insert(configuration.iter().map(|resource| resource.version).collect::<Vec<_>>()) {
                let number = pushes.len();
                let mut resources = resources(&configuration, number);
                let secrets = resources.get_mut(&Type::Secret.url()).unwrap();
                if let Some(bundle) = secrets.get_mut(TRUST_BUNDLE) {
                    *bundle = with_content(bundle, &pair.certificate);
                }
                pushes.push((format!("{} {proxy}", scenario.name), resources));
            }
        }
    }
    pushes
}

/// A bundle of trust domains that each trust one certificate.
fn with_content(bundle: &Any, certificate: &Bytes) -> Any {
    let mut secret = Secret::decode(bundle.value.clone()).unwrap();
    let Some(secret::Type::ValidationContext(context)) = &mut secret.r#type else { panic!("no validation context") };
    let custom = context.custom_validator_config.as_mut().unwrap().typed_config.as_mut().unwrap();
    let mut validator = SpiffeCertValidatorConfig::decode(custom.value.clone()).unwrap();
    for domain in &mut validator.trust_domains {
        let content = Specifier::InlineBytes(certificate.to_vec());
        domain.trust_bundle = Some(DataSource { specifier: Some(content), ..DataSource::default() });
    }
    *custom = Any::pack(&validator);
    Any::pack(&secret)
}

fn resources(configuration: &Configuration, push: usize) -> Resources {
    let one = |r#type| {
        let named = configuration.of(r#type).map(|resource| {
            let any = if r#type == Type::Listener { unbound(&resource.bytes, push) } else { resource.any() };
            (resource.name.clone(), any)
        });
        (r#type.url(), named.collect())
    };
    [Type::Secret, Type::Cluster, Type::Endpoint, Type::Listener, Type::Route].into_iter().map(one).collect()
}

fn unbound(bytes: &Bytes, push: usize) -> Any {
    let mut listener = Listener::decode(bytes.clone()).unwrap();
    listener.name = format!("{} of push {push}", listener.name);
    listener.bind_to_port = Some(false);
    Any::pack(&listener)
}

/// What an Envoy of this version does not accept, and why.
async fn refused(version: &str, pushes: &[(String, Resources)]) -> Vec<String> {
    let program = match e2e::envoy(version) {
        Ok(program) => program,
        Err(why) => {
            e2e::not_run("real_envoys_accept_what_is_made_of_every_scenario", &why);
            return Vec::new();
        }
    };
    let folder = tempfile::tempdir().unwrap();
    // Where the recordings say that sockets are; Envoy runs beside it.
    fs::create_dir(folder.path().join("<dir>")).unwrap();
    let mut server = Server::start(&folder.path().join("ads.sock"));
    let mut running = Running(start(&program, folder.path()));
    let mut refused = Vec::new();
    for (whose, resources) in pushes {
        match tokio::time::timeout(LIMIT, server.push(resources)).await {
            Ok(refusals) => refused.extend(refusals.iter().map(|why| format!("Envoy {version}* {whose}: {why}"))),
            Err(_) => {
                let log = fs::read_to_string(folder.path().join("log")).unwrap();
                let missing = server.missing(resources);
                refused.push(format!("Envoy {version}* {whose}: not taken in, waiting for {missing}\n{log}"));
                break;
            }
        }
        if let Some(status) = running.0.try_wait().unwrap() {
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            refused.push(format!("Envoy {version}* {whose}: it died ({status}): {log}"));
            break;
        }
    }
    refused
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &Path, folder: &Path) -> Child {
    let pipe = |name: &str| json!({"pipe": {"path": folder.join(name)}});
    let options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let h2 = json!({"@type": options, "explicit_http_config": {"http2_protocol_options": {}}});
    let ads = json!({
        "name": "ads", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
        "load_assignment": {
            "cluster_name": "ads",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": pipe("ads.sock")}}]}],
        },
    });
    let from_ads = json!({"ads": {}, "resource_api_version": "V3"});
    let bootstrap = json!({
        "node": {"id": "default.test", "cluster": "test"},
        "admin": {"address": pipe("admin.sock")},
        "static_resources": {"clusters": [ads]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}],
            },
            "cds_config": from_ads, "lds_config": from_ads,
        },
    });
    fs::write(folder.join("bootstrap.json"), bootstrap.to_string()).unwrap();
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--drain-time-s", "1", "--log-level", "error"]);
    command.arg("--config-path").arg(folder.join("bootstrap.json")).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}
