//! A client of the API, as tests of both control planes use it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::tls::client::Trust;
use serde_json::Value;

/// Calls one address.
#[derive(Clone)]
pub struct Caller {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    headers: Vec<(&'static str, String)>,
}

impl Caller {
    /// Over plain HTTP.
    pub fn http(address: Option<SocketAddr>) -> Self {
        Self::new("http", address, Trust::Anybody)
    }

    /// Over TLS, trusting a certificate file.
    pub fn https(address: Option<SocketAddr>, certificate: &Path) -> Self {
        Self::new("https", address, Trust::File(certificate))
    }

    fn new(scheme: &str, address: Option<SocketAddr>, trust: Trust<'_>) -> Self {
        let tls = identity::tls::client::config(trust, &[]).unwrap();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let base = format!("{scheme}://localhost:{}", address.expect("it listens").port());
        Self { client, base, headers: Vec::new() }
    }

    /// As if the call came through a proxy: the caller is not on this machine.
    pub fn as_from_elsewhere(&self) -> Self {
        self.with("x-forwarded-for", "192.0.2.7".to_owned())
    }

    /// With a bearer token.
    pub fn with_token(&self, token: &str) -> Self {
        self.with("authorization", format!("Bearer {token}"))
    }

    fn with(&self, name: &'static str, value: String) -> Self {
        let mut caller = self.clone();
        caller.headers.push((name, value));
        caller
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::DELETE, path, None).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let response = self.client.request(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into())))
    }
}

/// Tries until it holds, for ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Names of a list.
pub fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("items").iter().map(|item| item["name"].as_str().unwrap()).collect()
}
