//! `MeshHealthCheck`: how proxies find out whether an endpoint is alive.

use std::collections::BTreeSet;
use std::fmt::Write;

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::cluster::v3::cluster::CommonLbConfig;
use kds_proto::envoy::config::cluster::v3::cluster::common_lb_config::{LocalityConfigSpecifier, ZoneAwareLbConfig};
use kds_proto::envoy::config::core::v3::HealthCheck;
use kds_proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use kds_proto::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload,
};
use kds_proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use kds_proto::envoy::r#type::v3::{CodecClientType, Int64Range, Percent};
use model::duration::GoDuration;
use model::spec::header_modifier::HeaderModifier;
use model::spec::mesh_health_check::{Conf, Http, Tcp};

use crate::protocol::Protocol;

const INTERVAL: GoDuration = GoDuration::from_secs(60);
const TIMEOUT: GoDuration = GoDuration::from_secs(15);
const UNHEALTHY_THRESHOLD: i32 = 5;
const HEALTHY_THRESHOLD: i32 = 1;

/// Header that tells a workload who asks for its health.
const TAGS_HEADER: &str = "x-kuma-tags";

/// The tags of a client, as requests for health carry them: `&key=value&` each, of several values all.
pub fn client(tags: impl IntoIterator<Item = (String, BTreeSet<String>)>) -> String {
    let pair = |(key, values): (String, BTreeSet<String>)| {
        format!("&{key}={}&", values.into_iter().collect::<Vec<_>>().join(","))
    };
    tags.into_iter().map(pair).collect()
}

/// The part of a cluster that says how to find out.
pub fn shape(conf: &Conf, protocol: Protocol, client: &str, cluster: &mut Cluster) {
    if let Some(value) = conf.healthy_panic_threshold.as_ref().and_then(model::number::IntOrString::number) {
        common(cluster).healthy_panic_threshold = Some(Percent { value });
    }
    if let Some(fail) = conf.fail_traffic_on_panic {
        let specifier = common(cluster)
            .locality_config_specifier
            .get_or_insert_with(|| LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig::default()));
        if let LocalityConfigSpecifier::ZoneAwareLbConfig(zones) = specifier {
            zones.fail_traffic_on_panic = fail;
        }
    }
    cluster.health_checks.extend(checker(conf, protocol, client).map(|checker| check(conf, checker)));
}

fn common(cluster: &mut Cluster) -> &mut CommonLbConfig {
    cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default)
}

/// The question that fits the protocol; bytes are asked instead where that question is switched off.
fn checker(conf: &Conf, protocol: Protocol, client: &str) -> Option<HealthChecker> {
    let tcp = conf.tcp.as_ref().filter(|tcp| tcp.disabled != Some(true));
    match protocol {
        Protocol::Http | Protocol::Http2 => match conf.http.as_ref()? {
            http if http.disabled == Some(true) => tcp.map(of_tcp),
            http => Some(of_http(http, protocol, client)),
        },
        Protocol::Grpc => match conf.grpc.as_ref()? {
            grpc if grpc.disabled == Some(true) => tcp.map(of_tcp),
            grpc => Some(HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
                service_name: grpc.service_name.clone().unwrap_or_default(),
                authority: grpc.authority.clone().unwrap_or_default(),
                ..GrpcHealthCheck::default()
            })),
        },
        Protocol::Tcp => tcp.map(of_tcp),
        Protocol::Kafka | Protocol::Unknown => None,
    }
}

#[expect(deprecated, reason = "the file of events by its older field: the newer one needs an extension of Envoy")]
fn check(conf: &Conf, checker: HealthChecker) -> HealthCheck {
    let positive = |number: i32| u32::try_from(number).ok();
    HealthCheck {
        interval: Some(conf.interval.unwrap_or(INTERVAL).into()),
        timeout: Some(conf.timeout.unwrap_or(TIMEOUT).into()),
        unhealthy_threshold: positive(conf.unhealthy_threshold.unwrap_or(UNHEALTHY_THRESHOLD)),
        healthy_threshold: positive(conf.healthy_threshold.unwrap_or(HEALTHY_THRESHOLD)),
        initial_jitter: conf.initial_jitter.map(Into::into),
        interval_jitter: conf.interval_jitter.map(Into::into),
        interval_jitter_percent: conf.interval_jitter_percent.and_then(positive).unwrap_or(0),
        event_log_path: conf.event_log_path.clone().unwrap_or_default(),
        always_log_health_check_failures: conf.always_log_health_check_failures.unwrap_or(false),
        no_traffic_interval: conf.no_traffic_interval.map(Into::into),
        reuse_connection: conf.reuse_connection,
        health_checker: Some(checker),
        ..HealthCheck::default()
    }
}

/// Kuma writes the hexadecimal form of the text that the user gave, be that base64 or not.
fn of_tcp(tcp: &Tcp) -> HealthChecker {
    let payload = |text: &String| Payload { payload: Some(payload::Payload::Text(hex(text))) };
    HealthChecker::TcpHealthCheck(TcpHealthCheck {
        send: tcp.send.as_ref().map(payload),
        receive: tcp.receive.iter().flatten().map(payload).collect(),
        ..TcpHealthCheck::default()
    })
}

fn hex(text: &str) -> String {
    let mut hex = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn of_http(http: &Http, protocol: Protocol, client: &str) -> HealthChecker {
    let status = |status: &i32| Int64Range { start: i64::from(*status), end: i64::from(*status) + 1 };
    let codec = if protocol == Protocol::Http2 { CodecClientType::Http2 } else { CodecClientType::Http1 };
    let tags = HeaderValue { key: TAGS_HEADER.to_owned(), value: client.to_owned(), ..HeaderValue::default() };
    let mut added = Vec::new();
    if !client.is_empty() {
        added.push(HeaderValueOption { header: Some(tags), ..HeaderValueOption::default() });
    }
    added.extend(http.request_headers_to_add.iter().flat_map(headers));
    HealthChecker::HttpHealthCheck(HttpHealthCheck {
        path: http.path.clone().unwrap_or_else(|| "/".to_owned()),
        request_headers_to_add: added,
        expected_statuses: http.expected_statuses.iter().flatten().map(status).collect(),
        codec_client_type: codec.into(),
        ..HttpHealthCheck::default()
    })
}

fn headers(modifier: &HeaderModifier) -> Vec<HeaderValueOption> {
    let option = |name: &str, value: &str, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), ..HeaderValue::default() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    };
    let (added, set) = (modifier.add.iter().flatten(), modifier.set.iter().flatten());
    let all = added
        .map(|header| (header, HeaderAppendAction::AppendIfExistsOrAdd))
        .chain(set.map(|header| (header, HeaderAppendAction::OverwriteIfExistsOrAdd)));
    all.flat_map(|(header, action)| header.value.split(',').map(move |value| option(&header.name.0, value, action)))
        .collect()
}
