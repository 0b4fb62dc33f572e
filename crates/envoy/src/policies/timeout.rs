//! `MeshTimeout`: how long to wait.

use kds_proto::envoy::config::core::v3::HttpProtocolOptions;
use model::duration::GoDuration;
use model::spec::mesh_timeout::Conf;
use prost_types::Duration;

use crate::destination::Destination;
use crate::plan::Context;

const CONNECT: GoDuration = GoDuration::from_secs(5);
const IDLE: GoDuration = GoDuration::from_secs(3600);
const STREAM_IDLE: GoDuration = GoDuration::from_secs(1800);
const REQUEST: GoDuration = GoDuration::from_secs(15);

/// What holds for a listener; for a service by its tag `None` means that nothing was said, and nothing is set.
pub fn of_listener(context: &Context<'_>, destination: &Destination) -> Option<Conf> {
    let conf = context.policies.timeout_to.conf(destination).cloned();
    match destination {
        Destination::Tagged(_) => conf,
        Destination::Port(_) => Some(conf.unwrap_or_default()),
    }
}

/// How long a connection may take to be made.
pub fn connect(conf: &Conf) -> Duration {
    conf.connection_timeout.unwrap_or(CONNECT).into()
}

/// How long a connection may be silent.
pub fn idle(conf: &Conf) -> Duration {
    conf.idle_timeout.unwrap_or(IDLE).into()
}

/// How long the headers of a request may take.
pub fn request_headers(conf: &Conf) -> Duration {
    conf.http.as_ref().and_then(|http| http.request_headers_timeout).unwrap_or(GoDuration::ZERO).into()
}

/// How long a request may take.
pub fn request(conf: &Conf) -> Duration {
    conf.http.as_ref().and_then(|http| http.request_timeout).unwrap_or(REQUEST).into()
}

/// How long a request may be silent.
pub fn stream_idle(conf: &Conf) -> Duration {
    conf.http.as_ref().and_then(|http| http.stream_idle_timeout).unwrap_or(STREAM_IDLE).into()
}

/// What holds for connections to a cluster that speaks HTTP.
pub fn of_connections(conf: &Conf) -> HttpProtocolOptions {
    let http = conf.http.clone().unwrap_or_default();
    HttpProtocolOptions {
        idle_timeout: Some(idle(conf)),
        max_stream_duration: Some(http.max_stream_duration.unwrap_or(GoDuration::ZERO).into()),
        max_connection_duration: Some(http.max_connection_duration.unwrap_or(GoDuration::ZERO).into()),
        ..HttpProtocolOptions::default()
    }
}
