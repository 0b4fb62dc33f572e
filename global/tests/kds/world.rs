//! A global in this process, and callers that speak to it as zones do, over real connections.

use std::path::Path;
use std::time::Duration;

use config::{Host, Loader, Role};
use futures::{Stream, StreamExt};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::tls::client::Trust;
use kds_proto::envoy::config::core::v3::Node;
use kds_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use kds_proto::kuma::mesh::v1alpha1::ZoneHealthCheckRequest;
use kuma_global::{Config, Running};
use runtime::Exit;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::client::Caller;

/// Lets every zone in, without TLS.
pub const OPEN: &[&str] = &["multizone.global.kds.auth.type=none", "multizone.global.kds.tlsEnabled=false"];

/// The configuration file in a global's folder, if it has one.
const FILE: &str = "global.yaml";

pub const SYNC: &str = "/kuma.mesh.v1alpha1.KDSSyncService";
pub const ADMIN: &str = "/kuma.mesh.v1alpha1.GlobalKDSService";

/// How long anything may take that is to happen.
pub const SOON: Duration = Duration::from_secs(10);

/// A global with a folder of its own.
pub struct World {
    pub running: Running,
    folder: tempfile::TempDir,
    sets: Vec<String>,
}

impl World {
    pub async fn start(sets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let running = run(folder.path(), &sets).await;
        Self { running, folder, sets }
    }

    /// With a configuration file too, of which the settings take precedence.
    pub async fn with_file(text: &str, sets: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let running = run(folder.path(), &sets).await;
        Self { running, folder, sets }
    }

    /// Changes the configuration file and says so.
    pub fn change_file(&self, text: &str) {
        std::fs::write(self.folder.path().join(FILE), text).unwrap();
        self.running.reload().notify();
    }

    /// Ends and starts again with the same database.
    pub async fn restart(self) -> Self {
        let Self { running, folder, sets } = self;
        running.stop().ask();
        assert_eq!(running.end().await, Exit::Clean);
        let running = run(folder.path(), &sets).await;
        Self { running, folder, sets }
    }

    /// As if it were killed: nothing is written any more. Starts again with the same database.
    pub async fn kill_and_restart(self) -> Self {
        let Self { running, folder, sets } = self;
        // Its tasks end with it; what it holds of the database is read anew.
        drop(running);
        let running = run(folder.path(), &sets).await;
        Self { running, folder, sets }
    }

    pub async fn end(self) {
        self.running.stop().ask();
        assert_eq!(self.running.end().await, Exit::Clean);
    }

    /// Its API.
    pub fn api(&self) -> Caller {
        Caller::http(self.running.api.http)
    }

    /// The certificate of its servers.
    pub fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join(".kuma/kuma-cp.crt")
    }

    /// A connection of a zone, not dialled yet.
    pub fn dial(&self) -> Dialled {
        Dialled::new(self.running.kds.port(), Vec::new())
    }

    /// A connection of the zone with the metadata that a Kuma zone sends.
    pub fn zone(&self, name: &str) -> Dialled {
        Dialled::of_zone(self.running.kds.port(), name)
    }
}

impl Dialled {
    /// A connection of the zone with the metadata that a Kuma zone sends.
    pub fn of_zone(port: u16, name: &str) -> Self {
        Self::new(port, Vec::new())
            .with("client-id", name)
            .with("kds-version", "v3")
            .with("features", "zone-ping-health")
            .with("features", "hash-suffix")
    }
}

/// A global with this folder and these settings, on free ports.
pub async fn run(folder: &Path, sets: &[String]) -> Running {
    let ports = [
        "apiServer.http.port=0",
        "apiServer.https.port=0",
        "diagnostics.serverPort=0",
        "dpServer.port=0",
        "multizone.global.kds.grpcPort=0",
        "interCp.server.port=0",
    ];
    let loader = ports.iter().copied().chain(sets.iter().map(String::as_str));
    let mut loader = loader.fold(Loader::new(Role::Global), |loader, set| loader.set(set));
    let file = folder.join(FILE);
    if file.exists() {
        loader = loader.file(file);
    }
    let mut effective = loader.clone().load().unwrap().effective;
    effective.fill_in(&Host { home: Some(folder.to_owned()), address: None });
    let config = Config::read(&effective).unwrap().following(loader);
    let running = kuma_global::run(config).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), running.readiness().ready()).await.expect("ready in time");
    running
}

/// One connection, and the metadata of its calls.
#[derive(Clone)]
pub struct Dialled {
    client: Client<HttpsConnector<HttpConnector>, tonic::body::Body>,
    uri: Uri,
    metadata: Vec<(String, String)>,
}

/// Both ends of a call.
pub struct Call<Q, A> {
    pub requests: mpsc::Sender<Q>,
    pub responses: Streaming<A>,
}

impl Dialled {
    fn new(port: u16, metadata: Vec<(String, String)>) -> Self {
        Self::over("http", port, Trust::Anybody, metadata)
    }

    /// Over TLS, trusting a certificate, as the zone of this name.
    pub fn over_tls(port: u16, certificate: &Path, zone: &str) -> Self {
        Self::over("https", port, Trust::File(certificate), vec![("client-id".to_owned(), zone.to_owned())])
    }

    fn over(scheme: &str, port: u16, trust: Trust<'_>, metadata: Vec<(String, String)>) -> Self {
        // The connector offers h2 itself.
        let tls = identity::tls::client::config(trust, &[]).unwrap();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http2().build();
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let host = if scheme == "https" { "localhost" } else { "127.0.0.1" };
        Self { client, uri: format!("{scheme}://{host}:{port}").parse().unwrap(), metadata }
    }

    /// Another connection with the same metadata.
    pub fn again(&self) -> Self {
        Self::new(self.uri.port_u16().unwrap(), self.metadata.clone())
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    fn metadata(&self) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (key, value) in &self.metadata {
            let key: tonic::metadata::MetadataKey<tonic::metadata::Ascii> = key.parse().unwrap();
            map.append(key, value.parse::<MetadataValue<_>>().unwrap());
        }
        map
    }

    /// Any call with a stream in both directions; messages go compressed, as a Kuma zone sends them (KDS-2).
    pub async fn call<Q, A>(&self, path: &str) -> Result<Call<Q, A>, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let (requests, outgoing) = mpsc::channel(256);
        let responses = self.stream(path, ReceiverStream::new(outgoing)).await?;
        Ok(Call { requests, responses })
    }

    async fn stream<Q, A>(
        &self,
        path: &str,
        outgoing: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::with_origin(self.client.clone(), self.uri.clone())
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(16 << 20)
            .max_encoding_message_size(32 << 20);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(outgoing);
        *request.metadata_mut() = self.metadata();
        let path: PathAndQuery = path.parse().unwrap();
        let answer = grpc.streaming(request, path, ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    }

    /// `GlobalToZoneSync`.
    pub async fn down(&self) -> Result<Call<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, Status> {
        self.call(&format!("{SYNC}/GlobalToZoneSync")).await
    }

    /// `ZoneToGlobalSync`.
    pub async fn up(&self) -> Result<Call<DeltaDiscoveryResponse, DeltaDiscoveryRequest>, Status> {
        self.call(&format!("{SYNC}/ZoneToGlobalSync")).await
    }

    /// `HealthCheck`: the interval that the zone is told, in seconds.
    pub async fn health_check(&self) -> Result<Option<i64>, Status> {
        let path = format!("{ADMIN}/HealthCheck");
        let request = futures::stream::iter([ZoneHealthCheckRequest {}]);
        let mut answer: Streaming<kds_proto::kuma::mesh::v1alpha1::ZoneHealthCheckResponse> =
            self.stream(&path, request).await?;
        let response = answer.next().await.ok_or_else(|| Status::internal("no answer"))??;
        Ok(response.interval.map(|interval| interval.seconds))
    }
}

impl<Q, A> Call<Q, A> {
    /// The next message.
    pub async fn next(&mut self) -> Result<A, Status> {
        let next = tokio::time::timeout(SOON, self.responses.next()).await.expect("something in time");
        next.unwrap_or_else(|| Err(Status::ok("the stream ended with OK")))
    }

    /// The status that ends it; messages before are left aside.
    pub async fn status(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

/// A subscription of a zone that says no more than its name.
pub fn subscription(zone: &str, type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: zone.to_owned(), ..Node::default() }),
        type_url: type_url.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..DeltaDiscoveryRequest::default()
    }
}
