//! A client of the hub's API, on a connection that is kept.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(client))
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
