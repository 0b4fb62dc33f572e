//! A client of the hub's API, on a connection that is kept.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    /// Waits for the hub to listen.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let began = Instant::now();
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) if began.elapsed() > Duration::from_secs(30) => bail!("the hub does not listen: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        stream.set_nodelay(true)?;
        let (client, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// Waits for the default mesh.
    pub async fn ready(&mut self, patience: Duration) -> Result<()> {
        let began = Instant::now();
        while self.send(Method::GET, "/meshes/default", String::new()).await? != StatusCode::OK {
            ensure!(began.elapsed() < patience, "the hub makes no default mesh");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Puts the policy that changes, each time with another value.
    pub async fn put_timeout(&mut self, n: usize) -> Result<()> {
        let target = serde_json::json!({"kind": "Mesh"});
        let to = serde_json::json!([{"targetRef": target, "default": {"connectionTimeout": format!("{n}ms")}}]);
        let spec = serde_json::json!({"targetRef": target, "to": to});
        let body = serde_json::json!({"type": "MeshTimeout", "mesh": "default", "name": "t", "spec": spec});
        let status = self.send(Method::PUT, "/meshes/default/meshtimeouts/t", body.to_string()).await?;
        ensure!(status.is_success(), "the policy is refused: {status}");
        Ok(())
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Result<StatusCode> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("content-type", "application/json").body(Full::from(body))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}
