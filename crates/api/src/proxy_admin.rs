//! Questions to a proxy itself, which its control plane carries there: configuration, statistics, clusters
//! (api-and-kumactl 2.4).

use std::fmt::Debug;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use kds_proto::kuma::mesh::v1alpha1::{ZoneEgress, ZoneIngress};
use model::{Kind, Resource, Violations};

use crate::problem::Problem;
use crate::serve::Call;
use crate::{Api, reply, resource};

const NOT_EXECUTED: &str = "Could not execute admin operation";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its configuration, with endpoints or without.
    ConfigDump {
        /// Whether endpoints are wanted too.
        endpoints: bool,
    },
    /// Its statistics.
    Stats {
        /// How they shall be written.
        format: Format,
        /// Whether those that never changed are left out.
        used_only: bool,
    },
    /// Its clusters.
    Clusters {
        /// How they shall be written.
        format: Format,
    },
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// JSON.
    Json,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody knows its zone.
    NotFound,
    /// There is no way to the proxy yet; the text says which.
    NotConnected(String),
    /// It was asked and did not answer, or its zone is offline; the text says why.
    Failed(String),
    /// Something is wrong here. The text is for our log.
    Internal(String),
}

/// The way to proxies. A global asks their zones, a zone asks them.
pub trait ProxyAdmin: Debug + Send + Sync {
    /// Asks a proxy, a Dataplane, ZoneIngress or ZoneEgress as stored here. Bounded in time by whoever implements it.
    fn ask<'a>(&'a self, proxy: &'a Arc<Resource>, question: Question) -> BoxFuture<'a, Result<Bytes, Failure>>;
}

/// `…/{xds|stats|clusters}` below a proxy.
pub(crate) async fn answer(api: &Api, call: &Call, kind: Kind) -> Result<Response, Problem> {
    let question = question(api, call)?;
    let what = if kind == Kind::Dataplane { "dataplane" } else { "zone ingress" };
    let key = resource::key_of(api, call, kind).map_err(|_| missing(what))?;
    let configuration = api.configuration();
    let proxy = configuration.get(&key).ok_or_else(|| missing(what))?;
    check_is_here(api, proxy)?;
    let Some(admin) = &api.settings.proxy_admin else {
        tracing::warn!(proxy = %key, "there is no way to proxies: a question is not answered");
        return Err(Problem::internal(NOT_EXECUTED));
    };
    let answer = admin.ask(proxy, question).await.map_err(|failure| match failure {
        Failure::NotFound => Problem::not_found(NOT_EXECUTED),
        Failure::NotConnected(text) => Problem::new(StatusCode::BAD_REQUEST, "Bad Request", text),
        Failure::Failed(text) => Problem::new(StatusCode::BAD_REQUEST, NOT_EXECUTED, text),
        Failure::Internal(error) => {
            tracing::error!(proxy = %key, error, "a question to a proxy failed");
            Problem::internal(NOT_EXECUTED)
        }
    })?;
    let content_type = match question {
        Question::ConfigDump { .. } => "application/json",
        Question::Stats { format, .. } | Question::Clusters { format } => match format {
            Format::Json => "application/json",
            Format::Text => "text/plain",
        },
    };
    Ok(reply::with_type(StatusCode::OK, content_type, answer))
}

fn missing(what: &str) -> Problem {
    Problem::not_found(format!("Could not get {what} resource"))
}

/// What the path and the query ask, for a caller who may ask it.
fn question(api: &Api, call: &Call) -> Result<Question, Problem> {
    let access = &api.settings.access;
    let format = if call.query.get("format") == Some("json") { Format::Json } else { Format::Text };
    let flag = |key: &str| call.query.get(key).and_then(parse_bool);
    let (permission, what, question) = match call.name("operation") {
        "xds" => {
            let endpoints = flag("include_eds").unwrap_or(false);
            (&access.view_config_dump, "config dump", Question::ConfigDump { endpoints })
        }
        "stats" => {
            let used_only = flag("usedonly").unwrap_or(true);
            (&access.view_stats, "stats", Question::Stats { format, used_only })
        }
        "clusters" => (&access.view_clusters, "clusters", Question::Clusters { format }),
        // Of the whole list of what a proxy's configuration could be, only a zone knows it.
        "_config" if api.settings.mode.zone().is_none() => {
            return Err(Problem::method_not_allowed("Not allowed on global CP"));
        }
        _ => return Err(Problem::not_found(NOT_EXECUTED)),
    };
    if !permission.allows(&call.user) {
        let detail = format!("user \"{}\" cannot access {what}", call.user);
        return Err(Problem::access_denied(detail));
    }
    Ok(question)
}

/// As Go reads a flag.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A zone knows other zones' ingresses and egresses, and has no way to them.
fn check_is_here(api: &Api, proxy: &Resource) -> Result<(), Problem> {
    let Some(zone) = api.settings.mode.zone() else { return Ok(()) };
    let of = match proxy.kind() {
        Kind::ZoneIngress => proxy.spec.message::<ZoneIngress>().map(|ingress| ingress.zone.clone()),
        Kind::ZoneEgress => proxy.spec.message::<ZoneEgress>().map(|egress| egress.zone.clone()),
        _ => return Ok(()),
    };
    if of.is_ok_and(|of| !of.is_empty() && of != zone.name) {
        let title = "Could not connect to zone ingress that resides in another zone";
        return Err(Problem::invalid(title, Violations::default()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_go_reads_them() {
        assert_eq!(["1", "T", "true"].map(parse_bool), [Some(true); 3]);
        assert_eq!(["0", "F", "False"].map(parse_bool), [Some(false); 3]);
        assert_eq!(["", "yes", "tRUE"].map(parse_bool), [None; 3]);
    }
}
