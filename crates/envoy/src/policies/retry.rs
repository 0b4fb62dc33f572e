//! `MeshRetry`: when and how often to try again.

use model::duration::GoDuration;
use model::spec::header::HeaderMatch;
use model::spec::mesh_retry::{BackOff, Conf, Grpc, GrpcRetryOn, Http, HttpRetryOn, Predicate, RateLimitedBackOff};

use crate::destination::Destination;
use crate::plan::Context;
use crate::protocol::Protocol;

const HTTP_DEFAULT: &str = "gateway-error,connect-failure,refused-stream";
const GRPC_DEFAULT: &str =
    "cancelled,connect-failure,gateway-error,refused-stream,reset,resource-exhausted,unavailable";
const BY_STATUS: &str = "retriable-status-codes";
/// The shortest pause between tries of gRPC calls, where pauses are asked for without saying how long.
const GRPC_PAUSE: GoDuration = GoDuration::from_millis(25);

/// When and how often to try a request again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// Conditions, separated by commas.
    pub on: String,
    /// How often.
    pub times: Option<u32>,
    /// How long one try may take.
    pub per_try: Option<GoDuration>,
    /// Pauses between tries.
    pub pauses: Option<BackOff>,
    /// Pauses that the other side asks for.
    pub asked_pauses: Option<RateLimitedBackOff>,
    /// Statuses that are tried again.
    pub statuses: Vec<u32>,
    /// Methods that are tried again; empty: all.
    pub methods: Vec<&'static str>,
    /// Headers of requests that are tried again.
    pub request_headers: Vec<HeaderMatch>,
    /// Headers of answers that are tried again.
    pub response_headers: Vec<HeaderMatch>,
    /// Which endpoints are not chosen again.
    pub hosts: Vec<Predicate>,
    /// How often to look for another endpoint.
    pub host_attempts: i64,
}

/// How often to try to connect; `None`: once.
pub fn connect_attempts(context: &Context<'_>, destination: &Destination, protocol: Protocol) -> Option<u32> {
    let conf = context.policies.retry_to.conf(destination).filter(|_| protocol == Protocol::Tcp)?;
    conf.tcp.as_ref()?.max_connect_attempt
}

/// What holds for requests; `None`: they are not tried again.
pub fn of_requests(conf: &Conf, protocol: Protocol) -> Option<Retry> {
    match protocol {
        Protocol::Http => conf.http.as_ref().and_then(of_http),
        Protocol::Grpc => conf.grpc.as_ref().and_then(of_grpc),
        _ => None,
    }
}

fn of_http(conf: &Http) -> Option<Retry> {
    if conf.num_retries == Some(0) {
        return None;
    }
    let mut retry = Retry {
        times: conf.num_retries,
        per_try: conf.per_try_timeout,
        pauses: conf.back_off.clone(),
        asked_pauses: conf.rate_limited_back_off.clone(),
        request_headers: conf.retriable_request_headers.clone().unwrap_or_default(),
        response_headers: conf.retriable_response_headers.clone().unwrap_or_default(),
        hosts: conf.host_selection.clone().unwrap_or_default(),
        host_attempts: conf.host_selection_max_attempts.unwrap_or(0),
        ..Retry::default()
    };
    let mut conditions = Vec::new();
    for on in conf.retry_on.iter().flatten() {
        match condition(on) {
            Condition::Named(name) => conditions.push(name),
            Condition::Method(method) => retry.methods.push(method),
            Condition::Status(status) => retry.statuses.push(status),
        }
    }
    if conditions.is_empty() {
        conditions.extend(HTTP_DEFAULT.split(','));
    }
    if !retry.statuses.is_empty() && !conditions.contains(&BY_STATUS) {
        conditions.push(BY_STATUS);
    }
    retry.on = conditions.join(",");
    Some(retry)
}

/// What a word of `retryOn` means.
enum Condition {
    Named(&'static str),
    Method(&'static str),
    Status(u32),
}

fn condition(on: &HttpRetryOn) -> Condition {
    use Condition::{Method, Named, Status};
    match on {
        HttpRetryOn::All5xx => Named("5xx"),
        HttpRetryOn::GatewayError => Named("gateway-error"),
        HttpRetryOn::Reset => Named("reset"),
        HttpRetryOn::Retriable4xx => Named("retriable-4xx"),
        HttpRetryOn::ConnectFailure => Named("connect-failure"),
        HttpRetryOn::EnvoyRatelimited => Named("envoy-ratelimited"),
        HttpRetryOn::RefusedStream => Named("refused-stream"),
        HttpRetryOn::Http3PostConnectFailure => Named("http3-post-connect-failure"),
        HttpRetryOn::HttpMethodConnect => Method("CONNECT"),
        HttpRetryOn::HttpMethodDelete => Method("DELETE"),
        HttpRetryOn::HttpMethodGet => Method("GET"),
        HttpRetryOn::HttpMethodHead => Method("HEAD"),
        HttpRetryOn::HttpMethodOptions => Method("OPTIONS"),
        HttpRetryOn::HttpMethodPatch => Method("PATCH"),
        HttpRetryOn::HttpMethodPost => Method("POST"),
        HttpRetryOn::HttpMethodPut => Method("PUT"),
        HttpRetryOn::HttpMethodTrace => Method("TRACE"),
        // Validated: what is no word is a status.
        HttpRetryOn::Other(status) => Status(status.parse().unwrap_or(0)),
    }
}

fn of_grpc(conf: &Grpc) -> Option<Retry> {
    if conf.num_retries == Some(0) {
        return None;
    }
    let conditions: Vec<&str> = conf
        .retry_on
        .iter()
        .flatten()
        .map(|on| match on {
            GrpcRetryOn::Canceled => "canceled",
            GrpcRetryOn::DeadlineExceeded => "deadline-exceeded",
            GrpcRetryOn::Internal => "internal",
            GrpcRetryOn::ResourceExhausted => "resource-exhausted",
            GrpcRetryOn::Unavailable => "unavailable",
            GrpcRetryOn::Other(word) => word,
        })
        .collect();
    let pauses = conf.back_off.clone();
    Some(Retry {
        on: if conditions.is_empty() { GRPC_DEFAULT.to_owned() } else { conditions.join(",") },
        times: conf.num_retries,
        per_try: conf.per_try_timeout,
        pauses: pauses.map(|pauses| BackOff { base_interval: pauses.base_interval.or(Some(GRPC_PAUSE)), ..pauses }),
        asked_pauses: conf.rate_limited_back_off.clone(),
        ..Retry::default()
    })
}
