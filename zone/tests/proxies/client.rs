//! A client of the aggregated discovery service that does what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::tls::client::Trust;
use kds_proto::envoy::config::cluster::v3::Cluster;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use kds_proto::envoy::config::listener::v3::Listener;
use kds_proto::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use kds_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use kds_proto::json::{UnknownFields::Refused, from_value};
use prost::{Message, Name};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

pub const WAIT: Duration = Duration::from_secs(10);
pub const QUIET: Duration = Duration::from_millis(300);

type Channel = Client<HttpsConnector<HttpConnector>, tonic::body::Body>;
pub type Ads = AggregatedDiscoveryServiceClient<Channel>;

/// Dials a control plane; every dialler has its own connection.
#[derive(Clone)]
pub struct Dialler(Ads);

impl Dialler {
    pub fn new(address: SocketAddr, certificate: &Path) -> Self {
        let tls = identity::tls::client::config(Trust::File(certificate), &[]).unwrap();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().build();
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let origin = format!("https://localhost:{}", address.port()).parse().unwrap();
        Self(AggregatedDiscoveryServiceClient::with_origin(client, origin))
    }

    /// Opens a stream of the state of the world.
    pub async fn sotw(&self, token: &str) -> Result<Sotw, Status> {
        let (requests, sent) = mpsc::channel(64);
        let responses = self.0.clone().stream_aggregated_resources(shown(sent, token)).await?.into_inner();
        Ok(Sotw { requests, responses, versions: BTreeMap::new() })
    }

    /// Opens an incremental stream.
    pub async fn delta(&self, token: &str) -> Result<Delta, Status> {
        let (requests, sent) = mpsc::channel(64);
        let responses = self.0.clone().delta_aggregated_resources(shown(sent, token)).await?.into_inner();
        Ok(Delta { requests, responses })
    }
}

fn shown<M>(sent: mpsc::Receiver<M>, token: &str) -> Request<ReceiverStream<M>> {
    let mut request = Request::new(ReceiverStream::new(sent));
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(token).unwrap());
    }
    request
}

/// A proxy that brings a resource.
pub fn node(resource: &Value) -> Node {
    let (mesh, name) = (resource["mesh"].as_str().unwrap_or_default(), resource["name"].as_str().unwrap());
    let proxy_type = match resource["type"].as_str().unwrap() {
        "ZoneIngress" => "ingress",
        "ZoneEgress" => "egress",
        _ => "dataplane",
    };
    let metadata = json!({
        "dataplane.proxyType": proxy_type, "dataplane.resource": resource.to_string(), "features": [], "workdir": "/w",
        "version": {"kumaDp": {"version": "2.13.10"}, "envoy": {"version": "1.36.4", "kumaDpCompatible": true}},
    });
    from_value(json!({"id": format!("{mesh}.{name}"), "metadata": metadata}), Refused).unwrap()
}

pub struct Sotw {
    pub requests: mpsc::Sender<DiscoveryRequest>,
    pub responses: Streaming<DiscoveryResponse>,
    /// Version of each type that was taken last.
    versions: BTreeMap<String, String>,
}

impl Sotw {
    pub async fn ask(&self, type_url: String, names: &[&str], node: Option<Node>) {
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = DiscoveryRequest { type_url, resource_names, node, ..DiscoveryRequest::default() };
        // Whoever refuses the stream may be faster.
        let _ = self.requests.send(request).await;
    }

    /// The next response, or why there is none.
    pub async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        let next = tokio::time::timeout(WAIT, self.responses.message()).await.expect("a response in time");
        next.map(|response| response.expect("a response"))
    }

    /// Takes a response, naming what is wanted from now on.
    pub async fn ack(&mut self, response: &DiscoveryResponse, names: &[&str]) {
        let DiscoveryResponse { type_url, nonce, version_info, .. } = response.clone();
        self.versions.insert(type_url.clone(), version_info.clone());
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        let request =
            DiscoveryRequest { type_url, response_nonce: nonce, version_info, resource_names, ..Default::default() };
        self.requests.send(request).await.unwrap();
    }

    /// Refuses a response.
    pub async fn nack(&mut self, response: &DiscoveryResponse, names: &[&str], message: &str) {
        let DiscoveryResponse { type_url, nonce, .. } = response.clone();
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        let error_detail = Some(kds_proto::google::rpc::Status { message: message.to_owned(), ..Default::default() });
        let version_info = self.versions.get(&type_url).cloned().unwrap_or_default();
        let request = DiscoveryRequest {
            type_url,
            response_nonce: nonce,
            version_info,
            resource_names,
            error_detail,
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// Joins with a resource; its clusters, taken.
    pub async fn join(&mut self, resource: &Value) -> Result<BTreeMap<String, Cluster>, Status> {
        self.ask(Cluster::type_url(), &[], Some(node(resource))).await;
        let response = self.next().await?;
        assert_eq!(response.type_url, Cluster::type_url());
        self.ack(&response, &[]).await;
        Ok(clusters(&response))
    }

    /// That nothing comes for a while.
    pub async fn is_quiet(&mut self) {
        if let Ok(response) = tokio::time::timeout(QUIET, self.responses.message()).await {
            panic!("{response:?}");
        }
    }
}

pub struct Delta {
    pub requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub responses: Streaming<DeltaDiscoveryResponse>,
}

impl Delta {
    pub async fn ask(&self, type_url: String, names: &[&str], node: Option<Node>) {
        let resource_names_subscribe = names.iter().map(|name| (*name).to_owned()).collect();
        let request = DeltaDiscoveryRequest { type_url, resource_names_subscribe, node, ..Default::default() };
        let _ = self.requests.send(request).await;
    }

    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(WAIT, self.responses.message()).await.expect("a response in time");
        next.map(|response| response.expect("a response"))
    }

    pub async fn ack(&self, response: &DeltaDiscoveryResponse) {
        let DeltaDiscoveryResponse { type_url, nonce, .. } = response.clone();
        let request = DeltaDiscoveryRequest { type_url, response_nonce: nonce, ..Default::default() };
        self.requests.send(request).await.unwrap();
    }

    pub async fn is_quiet(&mut self) {
        if let Ok(response) = tokio::time::timeout(QUIET, self.responses.message()).await {
            panic!("{response:?}");
        }
    }
}

pub fn clusters(response: &DiscoveryResponse) -> BTreeMap<String, Cluster> {
    decoded(response, |cluster: &Cluster| cluster.name.clone())
}

pub fn listeners(response: &DiscoveryResponse) -> BTreeMap<String, Listener> {
    decoded(response, |listener: &Listener| listener.name.clone())
}

/// Addresses of the endpoints, by cluster.
pub fn endpoints(response: &DiscoveryResponse) -> BTreeMap<String, Vec<String>> {
    let assignments = decoded(response, |assignment: &ClusterLoadAssignment| assignment.cluster_name.clone());
    assignments.into_iter().map(|(name, assignment)| (name, addresses(&assignment))).collect()
}

pub fn addresses(assignment: &ClusterLoadAssignment) -> Vec<String> {
    use kds_proto::envoy::config::core::v3::address::Address::SocketAddress;
    use kds_proto::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier::Endpoint;
    let hosts = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    hosts
        .map(|host| match &host.host_identifier {
            Some(Endpoint(endpoint)) => match endpoint.address.as_ref().and_then(|address| address.address.as_ref()) {
                Some(SocketAddress(socket)) => socket.address.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect()
}

fn decoded<M: Message + Name + Default>(
    response: &DiscoveryResponse,
    name: impl Fn(&M) -> String,
) -> BTreeMap<String, M> {
    assert_eq!(response.type_url, M::type_url());
    let decoded = response.resources.iter().map(|resource| M::decode(&*resource.value).unwrap());
    decoded.map(|message| (name(&message), message)).collect()
}
