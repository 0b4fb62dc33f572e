//! What is spoken with the endpoints of a cluster.

use std::sync::Arc;

use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use kds_proto::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use kds_proto::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use prost::Name;

use super::assignment::{Sockets, Tags, tags};
use super::terminal;

/// HTTP/2, as it is called in a handshake.
pub(super) const H2: &str = "h2";
/// HTTP/1.1, as it is called in a handshake.
const H1: &str = "http/1.1";

/// The protocol of requests, if the cluster names one.
pub(super) fn requests(cluster: &Cluster) -> Result<Option<&'static str>, String> {
    let mut http = None;
    for (name, config) in &cluster.typed_extension_protocol_options {
        if *name != HttpProtocolOptions::full_name() {
            return Err(format!("not supported by this router: protocol options {name:?}"));
        }
        let options: HttpProtocolOptions = terminal::decode(config)?;
        http = match options.upstream_protocol_options {
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(_)) | None => Some(H1),
                Some(ProtocolConfig::Http2ProtocolOptions(_)) => Some(H2),
                Some(_) => return Err("not supported by this router: HTTP/3".to_owned()),
            },
            None => None,
            Some(_) => return Err("not supported by this router: a protocol that is found out".to_owned()),
        };
    }
    Ok(http)
}

/// How TLS begins at its endpoints.
pub(super) fn sockets(cluster: &Cluster, http: Option<&str>) -> Result<Sockets, String> {
    let mut sockets = Vec::new();
    for given in &cluster.transport_socket_matches {
        let wanted = given.r#match.as_ref().map(tags).unwrap_or_default();
        let socket = given.transport_socket.as_ref().ok_or("a transport socket is missing")?;
        sockets.push((wanted, Some(Arc::new(terminal::upstream(socket, http)?))));
    }
    if let Some(socket) = &cluster.transport_socket {
        sockets.push((Tags::new(), Some(Arc::new(terminal::upstream(socket, http)?))));
    }
    Ok(Sockets(sockets))
}
