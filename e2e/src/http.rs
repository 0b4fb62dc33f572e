//! Calls of a node's API, made on its machine.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::net::TcpStream;

/// For one call.
const LIMIT: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Status of HTTP; 0 if there was no answer, and then the body says why.
    pub status: u16,
    /// JSON, or a text that is none.
    pub body: Value,
}

impl Answer {
    /// Names of a list.
    pub fn names(&self) -> Vec<String> {
        let items = self.body["items"].as_array();
        items.into_iter().flatten().filter_map(|item| Some(item["name"].as_str()?.to_owned())).collect()
    }

    /// Items of a list that are shown under a name: their own, or the one that they had where they were made.
    pub fn shown(&self, name: &str) -> Vec<&Value> {
        let is =
            |item: &&Value| item["labels"]["kuma.io/display-name"].as_str().or(item["name"].as_str()) == Some(name);
        self.body["items"].as_array().into_iter().flatten().filter(is).collect()
    }

    /// The answer if it is a good one.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{self:?}");
        self
    }
}

/// Calls from within a network namespace, as someone on that machine.
pub(crate) async fn call(namespace: &str, port: u16, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let answered = tokio::time::timeout(LIMIT, attempt(namespace, port, method, path, body)).await;
    let failed = |why: String| Answer { status: 0, body: Value::String(why) };
    match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed(format!("no answer within {LIMIT:?}")),
    }
}

async fn attempt(namespace: &str, port: u16, method: Method, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let stream = connect(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = request.body(Full::<Bytes>::from(body)).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    driver.abort();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
}

/// A socket stays in the namespace that it was made in, so a thread goes there for it.
fn connect(namespace: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let file = File::open(format!("/run/netns/{namespace}"))?;
    let connecting = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        std::net::TcpStream::connect_timeout(&address, LIMIT)
    });
    let stream = connecting.join().unwrap()?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
